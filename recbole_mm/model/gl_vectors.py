"""User and movie vectors of the published networks: U_emb and M x GL, by modality."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recbole_mm.config import Config
from recbole_mm.errors import FeatureError, nearest
from recbole_mm.glscore import UNDEFINED, UserSet, gl_score, user_embeddings
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
        scale: float = 1.0,
        undefined: float = UNDEFINED,
    ) -> None:
        self.scale, self.undefined = scale if weighted else 1.0, undefined
        self.known, self.genres, self.bank, self.user_set, self.weighted = known, genres, bank, user_set, weighted
        self._vectors = {name: bank.vectors(name).numpy() for name in bank.names}
        self.forget()

    def forget(self) -> None:
        """Compute everything anew when it is asked for."""
        self._keys = np.zeros(0, np.int64)  # of the pairs remembered, sorted
        self._rows = np.zeros(0, np.int64)  # where each is in the tables
        self._users = {name: np.zeros((0, width), np.float32) for name, width in self.bank.widths.items()}
        self._scores = np.zeros(0, np.float32)

    def of(self, users: Ids, items: Ids) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """User and movie vectors by modality, each [B, F]."""
        keys = users * self.known.n_items + items
        if len(self._keys) > _REMEMBERED:
            self.forget()
        new = np.setdiff1d(keys, self._keys)
        if len(new):
            self._remember(new)
        rows = self._rows[np.searchsorted(self._keys, keys)]
        score = torch.from_numpy(self._scores[rows])[:, None]
        at = torch.from_numpy(items)
        mine = {name: torch.from_numpy(self._users[name][rows]) for name in self.bank.names}
        return mine, {name: self.bank.vectors(name)[at] * score for name in self.bank.names}

    def _remember(self, keys: Ids) -> None:
        users, items = keys // self.known.n_items, keys % self.known.n_items
        score = np.ones(len(keys), np.float32)
        if self.weighted:
            score = gl_score(self.known, self.genres, users, items, undefined=self.undefined).astype(np.float32)
            score *= self.scale
        start, stop = len(self._keys), len(self._keys) + len(keys)
        self._scores = _grown(self._scores, stop)
        self._scores[start:stop] = score
        for name in self.bank.names:
            self._users[name] = _grown(self._users[name], stop)
            self._users[name][start:stop] = self.scale * user_embeddings(
                self.known, self.genres, self._vectors[name], users, items,
                user_set=self.user_set, weighted=self.weighted, undefined=self.undefined,
            )  # fmt: skip
        every = np.concatenate([self._keys, keys])
        order = np.argsort(every, kind="stable")
        self._keys, self._rows = every[order], np.concatenate([self._rows, np.arange(start, stop)])[order]


def _grown(table: NDArray[np.float32], rows: int) -> NDArray[np.float32]:
    """The table with room for that many rows; doubled, so that growing batch by batch copies little."""
    if rows <= len(table):
        return table
    larger = np.empty((max(rows, 2 * len(table)), *table.shape[1:]), np.float32)
    larger[: len(table)] = table
    return larger
