"""User and movie vectors of the published networks: U_emb and M x GL, by modality."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recbole_mm.config import Config
from recbole_mm.errors import FeatureError, nearest
from recbole_mm.glscore import UserSet, gl_score, user_embeddings
from recbole_mm.known_labels import Ids, KnownLabels
from recbole_mm.model.fusion import ModalityBank

_REMEMBERED = 100_000  # pairs


def movie_modalities(config: Config, chosen: list[str] | None) -> list[str]:
    """Names of the modalities that represent a movie.

    Raises:
        FeatureError: none is registered, or one that is not.
    """
    registered = list(config["modalities"])
    for name in chosen or ():
        if name not in registered:
            raise FeatureError(
                f"movie_modalities: '{name}' is not registered (registered: {', '.join(registered) or 'none'})"
                f"{nearest(name, registered)}"
            )
    if not registered:
        raise FeatureError(f"{config['model']} needs a modality, '{config['dataset']}' has none; see 'features add'")
    return list(chosen or registered)


class GLVectors:
    """Computes U_emb and M x GL of pairs, and remembers them: they do not change while the known labels do not."""

    def __init__(
        self,
        known: KnownLabels,
        genres: NDArray[np.float32],
        bank: ModalityBank,
        user_set: UserSet,
        *,
        weighted: bool,
    ) -> None:
        self.known, self.genres, self.bank, self.user_set, self.weighted = known, genres, bank, user_set, weighted
        self._vectors = {name: bank.vectors(name).numpy() for name in bank.names}
        self._forget()

    def _forget(self) -> None:
        self._rows: dict[int, int] = {}
        self._users = {name: np.zeros((0, width), np.float32) for name, width in self.bank.widths.items()}
        self._scores = np.zeros(0, np.float32)

    def of(self, users: Ids, items: Ids) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """User and movie vectors by modality, each [B, F]."""
        keys = users * self.known.n_items + items
        if len(self._rows) > _REMEMBERED:
            self._forget()
        new = np.unique([key for key in keys.tolist() if key not in self._rows]).astype(np.int64)
        if len(new):
            self._remember(new)
        rows = np.array([self._rows[key] for key in keys.tolist()], dtype=np.int64)
        score = torch.from_numpy(self._scores[rows])[:, None]
        at = torch.from_numpy(items)
        mine = {name: torch.from_numpy(self._users[name][rows]) for name in self.bank.names}
        return mine, {name: self.bank.vectors(name)[at] * score for name in self.bank.names}

    def _remember(self, keys: Ids) -> None:
        users, items = keys // self.known.n_items, keys % self.known.n_items
        score = np.ones(len(keys), np.float32)
        if self.weighted:
            score = gl_score(self.known, self.genres, users, items).astype(np.float32)
        self._rows.update(zip(keys.tolist(), range(len(self._rows), len(self._rows) + len(keys)), strict=True))
        self._scores = np.concatenate([self._scores, score])
        for name in self.bank.names:
            found = user_embeddings(
                self.known, self.genres, self._vectors[name], users, items,
                user_set=self.user_set, weighted=self.weighted,
            )  # fmt: skip
            self._users[name] = np.concatenate([self._users[name], found])
