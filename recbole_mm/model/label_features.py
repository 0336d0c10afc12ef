"""What the known labels say of a pair, as numbers [P, D] and as sequences; a pair's own label is in none of it.

Numbers: the GL-score and its parts; class shares and counts of the user and of the movie; the user's class shares in
the movie's genres; and, where a process is given, mean, deviation and mu of each view of :class:`LabelProcess`.
"""

import warnings
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recbole_mm.glscore import entry_scores, genre_likes, genre_sums, oriented, own_likes, score
from recbole_mm.known_labels import Ids, KnownLabels, Sequences
from recbole_mm.model.label_process import LabelProcess

SCORE_COLUMNS = 4  # the first columns: the GL-score and its parts
_MOVIE = slice(SCORE_COLUMNS + 4, SCORE_COLUMNS + 8)  # class shares and count of the movie's labels


@dataclass(frozen=True)
class Ragged:
    """Sequences of P pairs: where each pair's entries begin [P + 1], and for each entry its known label and its GL."""

    starts: Ids
    at: Tensor
    weight: Tensor

    def of(self, rows: Ids) -> tuple[Tensor, Tensor, Tensor]:
        """Entries of some pairs: the pair's place in ``rows`` [E], known label [E], GL [E]."""
        count = self.starts[rows + 1] - self.starts[rows]
        pair = np.repeat(np.arange(len(rows)), count)
        entry = np.arange(int(count.sum())) - np.repeat(np.cumsum(count) - count, count)
        entry += np.repeat(self.starts[rows], count)
        where = torch.from_numpy(entry)
        return torch.from_numpy(pair), self.at[where], self.weight[where]


@dataclass(frozen=True)
class PairFeatures:
    """Everything that is known of P pairs."""

    users: Ids
    items: Ids
    numbers: Tensor  # [P, D]
    user_side: Ragged
    movie_side: Ragged


def number_of_columns(*, has_genres: bool, process: bool) -> int:
    """D of :class:`PairFeatures`."""
    return SCORE_COLUMNS + 8 + 9 * has_genres + 6 * process


class LabelFeatures:
    """Computes :class:`PairFeatures` from the known labels.

    Args:
        known: what is known.
        genres: [I, G].
        has_genres: whether the data set has genres at all.
        process: the closed form, having observed ``known``; or None.
        limit: of a sequence's length.
        chosen: classes whose labels stand in the user's sequence.
        weighted: whether a rated movie weighs its GL-score, or 1; and whether the score is among the numbers.
    """

    def __init__(
        self,
        known: KnownLabels,
        genres: NDArray[np.float32],
        *,
        has_genres: bool,
        process: LabelProcess | None,
        limit: int,
        chosen: tuple[int, ...],
        weighted: bool,
    ) -> None:
        self.known, self.genres, self.has_genres = known, genres, has_genres
        self.process, self.limit, self.chosen, self.weighted = process, limit, chosen, weighted
        self.sums, self.likes = genre_sums(known, genres), own_likes(known, genres)

    def of(self, users: Ids, items: Ids) -> PairFeatures:
        """Features of pairs."""
        sequences = self.known.of_users(users, items, self.limit)
        chosen = np.isin(self.known.cls[sequences.at], self.chosen)
        mine = Sequences(sequences.pair[chosen], sequences.at[chosen])
        weight = np.ones(len(mine.pair))
        if self.weighted:
            weight = entry_scores(self.known, self.genres, users, items, mine, likes=self.likes)
        others = self.known.of_items(users, items, self.limit)
        return PairFeatures(
            users,
            items,
            self.numbers(users, items),
            _ragged(mine, weight, len(users)),
            _ragged(others, np.ones(len(others.pair)), len(users)),
        )

    def numbers(self, users: Ids, items: Ids) -> Tensor:
        """The numbers of pairs, [P, D]."""
        likes = genre_likes(self.known, self.genres, users, items, sums=self.sums)
        parts: list[NDArray[Any]] = [
            score(oriented(self.known, likes))[:, None],
            np.log1p(np.maximum(likes, 0)),
        ]
        if not self.weighted:
            parts = [np.zeros((len(users), SCORE_COLUMNS))]
        sides: tuple[Literal["user"], Literal["item"]] = ("user", "item")
        for side in sides:
            total = self.known.class_counts(side, users, items).sum(1, keepdims=True)
            parts += [self.known.shares_of(side, users, items), np.log1p(total)]
        if self.has_genres:
            parts.append(self._genre_shares(users, items))
        if self.process is not None:
            mean, variance, mu = (part.numpy() for part in self.process(users, items))
            parts += [mean, np.sqrt(variance), mu]
        return torch.from_numpy(np.concatenate(parts, axis=1).astype(np.float32))

    def without_movie(self, numbers: Tensor) -> Tensor:
        """The numbers [P, D] as if the pairs' movies had no label: the overall shares and means in their places."""
        numbers = numbers.clone()
        numbers[:, _MOVIE] = torch.tensor([*self.known.class_shares, 0.0], dtype=numbers.dtype)
        if self.process is not None:
            numbers[:, -6:-4] += self.process.prior - numbers[:, -2:]  # the mean holds mu
            numbers[:, -2:] = self.process.prior
        return numbers

    def _genre_shares(self, users: Ids, items: Ids) -> NDArray[np.float64]:
        """Mean, maximum and minimum over the movie's genres of the user's class shares, [P, 9]; 1/3 without a genre."""
        counts = self.sums[users].astype(np.float64)  # [P, 3, G]
        mine = self.genres[items] > 0
        if self.known.leave_out:
            own = self.known.own(users, items)
            at = np.flatnonzero(own >= 0)
            counts[at, self.known.cls[own[at]]] -= self.genres[items[at]]
        shares = (counts + 1) / (counts.sum(1, keepdims=True) + 3)
        shares = np.where(mine[:, None, :], shares, np.nan)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of movies without a genre
            found = [np.nanmean(shares, 2), np.nanmax(shares, 2), np.nanmin(shares, 2)]
        return np.asarray(np.nan_to_num(np.concatenate(found, axis=1), nan=1 / 3))


def _ragged(sequences: Sequences, weight: NDArray[np.float64], n_pairs: int) -> Ragged:
    starts = np.concatenate([[0], np.cumsum(np.bincount(sequences.pair, minlength=n_pairs))])
    return Ragged(starts, torch.from_numpy(sequences.at), torch.from_numpy(weight.astype(np.float32)))
