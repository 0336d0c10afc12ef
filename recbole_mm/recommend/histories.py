"""What users watched, ragged, and what a rating weighs."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from recbole_mm.errors import RequestError
from recbole_mm.model.scoring import Array

LowRatings = Literal["against", "as_trained"]


@dataclass(frozen=True)
class Watched:
    """One person's items [n] with their history weights [n] as in training."""

    items: Array
    weights: Array


@dataclass(frozen=True)
class Histories:
    """All users' items: those of user u are ``items[starts[u]:starts[u + 1]]``; ``weights`` as in training, or None.

    Shapes: ``starts`` [U + 1], ``items`` [N], ``weights`` [N].
    """

    starts: Array
    items: Array
    weights: Array | None = None

    def of(self, user: int) -> Watched:
        """One user's history; without weights, all count 1."""
        part = slice(int(self.starts[user]), int(self.starts[user + 1]))
        items = np.asarray(self.items[part], dtype=np.int64)
        weights = np.ones(len(items)) if self.weights is None else self.weights[part]
        return Watched(items, np.asarray(weights, dtype=np.float32))


@dataclass(frozen=True)
class RatingScale:
    """The ratings that the model was trained on: (rating / mean)^power weighs a watched film.

    A rating below the middle of the scale counts against with the weight that its mirror image counts for: on 1 to
    5, a 1 counts against as a 5 counts for. Training itself takes every interaction for one in favour; a person whose
    low ratings are to be read like that asks for ``as_trained``.
    """

    low: float = 1.0
    high: float = 5.0
    mean: float = 3.0
    power: float = 0.0

    def weight(self, rating: float | None, low_ratings: LowRatings = "against") -> float:
        """The history weight of a film; without a rating, that of the mean rating, 1.

        Raises:
            RequestError: the rating is not on the scale.
        """
        if rating is None:
            return 1.0
        if not self.low <= rating <= self.high:  # NaN is not, either
            raise RequestError(f"rating {rating:g} is not on the scale; expected {self.low:g} to {self.high:g}")
        against = low_ratings == "against" and rating < (self.low + self.high) / 2
        mirrored = self.low + self.high - rating if against else rating
        size = float((mirrored / self.mean) ** self.power) if self.mean > 0 else 1.0
        return -size if against else size
