"""Small data sets of three-class labels with a planted answer, and slow references."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from recbole_mm.features import Features, write_feature_file
from recbole_mm.known_labels import KnownLabels
from recbole_mm.quick_start import Silent, _build, _configuration, request


@dataclass
class Labelled:
    """Users like movies of their own genre and dislike those of the next one; the rest is neutral."""

    root: Path
    name: str = "labelled"
    n_users: int = 45
    n_items: int = 60
    n_genres: int = 3
    per_user: int = 16
    noise: float = 0.1
    seed: int = 0
    genre: np.ndarray = field(init=False)
    rows: list[tuple[str, str, int]] = field(init=False)

    def __post_init__(self) -> None:
        draw = np.random.default_rng(self.seed)
        self.genre = draw.integers(0, self.n_genres, self.n_items)
        self.rows = []
        for user in range(self.n_users):
            for item in draw.permutation(self.n_items)[: self.per_user]:
                label = {0: 1, 1: -1}.get((int(self.genre[item]) - user) % self.n_genres, 0)
                if draw.random() < self.noise:
                    label = int(draw.integers(-1, 2))
                self.rows.append((f"u{user}", f"i{item}", label))

    @property
    def folder(self) -> Path:
        return self.root / self.name

    def write(self) -> "Labelled":
        """Write atomic files and two modalities."""
        self.folder.mkdir(parents=True, exist_ok=True)
        items = [f"i{i}\tgg{g}\t{1990 + g}" for i, g in enumerate(self.genre)]
        head = "item_id:token\tgenres:token_seq\tyear:float"
        (self.folder / f"{self.name}.item").write_text("\n".join([head, *items]) + "\n")
        draw = np.random.default_rng(self.seed + 1)
        for name in ("text", "image"):
            vectors = np.eye(self.n_genres)[self.genre] @ draw.normal(size=(self.n_genres, 8))
            vectors = (vectors + 0.3 * draw.normal(size=vectors.shape)).astype(np.float32)
            tokens = tuple(f"i{i}" for i in range(3, self.n_items))
            features = Features(vectors[3:], tokens, {"encoder": "planted"}, name)
            (self.folder / f"{self.name}.{name}.safetensors").unlink(missing_ok=True)
            write_feature_file(self.folder / f"{self.name}.{name}.safetensors", features)
        self.write_labels(self.rows)
        return self

    def write_labels(self, rows: list[tuple[str, str, int]]) -> None:
        lines = [f"{u}\t{i}\t{label}" for u, i, label in rows]
        text = "\n".join(["user_id:token\titem_id:token\tlabel:float", *lines]) + "\n"
        (self.folder / f"{self.name}.inter").write_text(text)

    def config(self, **over: Any) -> dict[str, Any]:
        """Parameters of a short run."""
        files = {name: {"file": f"{self.name}.{name}.safetensors"} for name in ("text", "image")}
        return {
            "data_path": str(self.root), "load_col": {"inter": ["user_id", "item_id", "label"]}, "modalities": files,
            "epochs": 3, "stopping_step": 3, "train_batch_size": 128, "folds": 3, **over,
        }  # fmt: skip


def parts_of(model: str, data: Labelled, **over: Any) -> Any:
    """Data, model and trainer of a short run of fold 1."""
    asked = request(model, data.name, config={**data.config(fold=1, **over), "checkpoint_dir": "parts"})
    return _build(_configuration(asked), Silent())


def slow_parts(known: KnownLabels, genres: np.ndarray, user: int, item: int) -> list[float]:
    """d, n, l of a pair, written as the equations stand."""
    sums = [np.zeros(genres.shape[1]) for _ in range(3)]
    for u, i, c in zip(known.user, known.item, known.cls, strict=True):
        if u == user and not (known.leave_out and i == item):
            sums[c] = sums[c] + genres[i]
    return [float(genres[item] @ total) for total in sums]


def slow_score(known: KnownLabels, genres: np.ndarray, user: int, item: int) -> float:
    d, n, like = slow_parts(known, genres, user, item)
    return (like + n / 2) / (like + n + d) if like + n + d > 0 else 0.5


def slow_embedding(known, genres, vectors, user, item, classes, weighted):
    """U_emb of a pair's user, an entry's score computed without the pair's own label."""
    total, count = np.zeros(vectors.shape[1]), 0
    for u, i, c in zip(known.user, known.item, known.cls, strict=True):
        if u != user or c not in classes or (known.leave_out and i == item):
            continue
        rest = known
        if known.leave_out:
            keep = (known.user != user) | (known.item != item)
            rest = KnownLabels(
                known.user[keep], known.item[keep], known.cls[keep] - 1, known.n_users, known.n_items, leave_out=False
            )
        total = total + (slow_score(rest, genres, user, i) if weighted else 1.0) * vectors[i]
        count += 1
    return total / max(count, 1)
