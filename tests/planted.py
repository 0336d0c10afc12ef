"""Small data sets with a planted answer, written as atomic files and feature files."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from recbole_mm.features import Features, write_feature_file


@dataclass
class Planted:
    """Users like the items of their own group; a group is a pair (a, b) of attributes."""

    root: Path
    name: str = "planted"
    n_users: int = 72
    n_items: int = 90
    groups: tuple[int, int] = (3, 3)
    per_user: int = 7
    noise: float = 0.15  # share of interactions outside the group
    seed: int = 0
    attributes: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        draw = np.random.default_rng(self.seed)
        a, b = self.groups
        self.attributes = np.stack([draw.integers(0, a, self.n_items), draw.integers(0, b, self.n_items)], 1)
        group = self.attributes[:, 0] * b + self.attributes[:, 1]
        self.rows: list[tuple[str, str, int]] = []
        for user in range(self.n_users):
            own = np.flatnonzero(group == user % (a * b))
            other = np.flatnonzero(group != user % (a * b))
            liked = draw.permutation(own)[: self.per_user]
            stray = draw.permutation(other)[: round(self.noise * self.per_user)]
            self.rows += [(f"u{user}", f"i{item}", int(draw.integers(1, 6))) for item in [*liked, *stray]]
        draw.shuffle(self.rows)

    @property
    def folder(self) -> Path:
        """The data set's folder."""
        return self.root / self.name

    def write(self) -> "Planted":
        """Write ``.inter`` and ``.item``."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.write_interactions(self.rows)
        lines = [f"i{i}\tg{a} h{b}\t{1990 + a * 5 + b}" for i, (a, b) in enumerate(self.attributes)]
        head = "item_id:token\tclass:token_seq\tyear:token"
        (self.folder / f"{self.name}.item").write_text("\n".join([head, *lines]) + "\n")
        return self

    def write_interactions(self, rows: list[tuple[str, str, int]], part: str = "") -> None:
        """Write ``.inter``, or ``.<part>.inter``."""
        head = "user_id:token\titem_id:token\trating:float"
        text = "\n".join([head, *(f"{u}\t{i}\t{r}" for u, i, r in rows)]) + "\n"
        (self.folder / f"{self.name}{part and '.' + part}.inter").write_text(text)

    def write_cold(self, share: float = 0.3) -> "Planted":
        """Write train, valid and test parts; the test part's items occur there only."""
        self.write()
        draw = np.random.default_rng(self.seed + 1)
        cold = {f"i{i}" for i in draw.permutation(self.n_items)[: round(share * self.n_items)]}
        warm_rows = [r for r in self.rows if r[1] not in cold]
        cut = round(0.9 * len(warm_rows))
        self.write_interactions(warm_rows[:cut], "train")
        self.write_interactions(warm_rows[cut:], "valid")
        self.write_interactions([r for r in self.rows if r[1] in cold], "test")
        return self

    def features(self, which: str, *, width: int = 12, noise: float = 0.3, missing: int = 0) -> Features:
        """Vectors that tell attribute ``a``, ``b``, ``both`` or ``nothing``."""
        draw = np.random.default_rng([self.seed, *which.encode()])
        a, b = self.groups
        codes = {
            "a": np.eye(a)[self.attributes[:, 0]],
            "b": np.eye(b)[self.attributes[:, 1]],
            "both": np.eye(a * b)[self.attributes[:, 0] * b + self.attributes[:, 1]],
            "nothing": np.zeros((self.n_items, 1)),
        }[which]
        vectors = codes @ draw.normal(size=(codes.shape[1], width)) + noise * draw.normal(size=(self.n_items, width))
        kept = np.sort(draw.permutation(self.n_items)[: self.n_items - missing])
        return Features(vectors[kept].astype(np.float32), tuple(f"i{i}" for i in kept), {"encoder": which}, which)

    def register(self, **which: str) -> dict[str, Any]:
        """Write feature files by modality name, and answer what goes into ``modalities``."""
        for modality, kind in which.items():
            missing = 5 if kind != "nothing" else 0
            write_feature_file(self.file(modality), self.features(kind, missing=missing))
        return {modality: {"file": self.file(modality).name} for modality in which}

    def file(self, modality: str) -> Path:
        """Path of a modality's feature file."""
        return self.folder / f"{self.name}.{modality}.safetensors"

    def config(self, **over: Any) -> dict[str, Any]:
        """Parameters of a short run on this data set."""
        return {
            "data_path": str(self.root), "load_col": {"inter": ["user_id", "item_id", "rating"]}, "epochs": 8,
            "stopping_step": 8, "train_batch_size": 128, "topk": [10], "modalities": {},
            "label_from": {"field": "rating", "dislike_at_most": 2, "like_at_least": 4}, "genre_field": "class", **over,
        }  # fmt: skip
