"""Three-class labels that a prediction may rest on, as sequences of users and of movies, the pair's own left out.

Shapes: K known labels, U users, I items (id 0 is padding in both), P pairs, E entries of the pairs' sequences.
"""

from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recbole_mm.errors import DataError

Ids = NDArray[np.int64]
CLASSES = ("dislike", "neutral", "like")  # of labels -1, 0, 1; their order is the order of the scale


class Sequences(NamedTuple):
    """Ragged sequences of P pairs: for each entry its pair [E] and its place among the known labels [E]."""

    pair: Ids
    at: Ids


def to_classes(labels: ArrayLike) -> Ids:
    """Labels -1, 0, 1 [N] to classes 0, 1, 2 [N].

    Raises:
        DataError: another value.
    """
    values = np.asarray(labels, dtype=np.float64)
    wrong = ~np.isin(values, (-1.0, 0.0, 1.0))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise DataError(
            f"label {values[row]:g} in row {row + 1}: {int(wrong.sum())} of {len(values)} labels are outside -1, 0, 1; "
            "mend the label field, or derive it by label_from: {field: rating, dislike_at_most: 2, like_at_least: 4}"
        )
    return np.asarray(values + 1, dtype=np.int64)


class KnownLabels:
    """Known labels, sorted by user and by item, so that any pair's sequence is a slice.

    Args:
        user: [K] ids.
        item: [K] ids.
        label: [K], of -1, 0, 1.
        n_users: U, padding included.
        n_items: I, padding included.
        leave_out: whether a known pair's own label is left out of its own input; off only to rerun the published leak.
        exchanged: whether like and dislike are exchanged when a score is computed, as in one published notebook.

    Raises:
        DataError: a label of another value, or a pair that is labelled twice.
    """

    def __init__(
        self,
        user: ArrayLike,
        item: ArrayLike,
        label: ArrayLike,
        n_users: int,
        n_items: int,
        *,
        leave_out: bool = True,
        exchanged: bool = False,
    ) -> None:
        self.n_users, self.n_items, self.leave_out, self.exchanged = n_users, n_items, leave_out, exchanged
        users, items, classes = np.asarray(user, np.int64), np.asarray(item, np.int64), to_classes(label)
        keys = users * n_items + items
        order = np.argsort(keys, kind="stable")
        self.user, self.item, self.cls, self._keys = users[order], items[order], classes[order], keys[order]
        if (np.diff(self._keys) == 0).any():
            at = int(np.flatnonzero(np.diff(self._keys) == 0)[0])
            raise DataError(
                f"user {self.user[at]} labels item {self.item[at]} twice; expected one label a pair: "
                "set rm_dup_inter: last"
            )
        self._user_starts = _starts(self.user, n_users)
        self._by_item = np.argsort(self.item, kind="stable")
        self._item_starts = _starts(self.item, n_items)

    def __len__(self) -> int:
        return len(self.user)

    @property
    def class_shares(self) -> NDArray[np.float64]:
        """Share of each class, [3]; a third each where nothing is known."""
        counts = np.bincount(self.cls, minlength=3)
        return np.asarray((counts + 1e-9) / (counts.sum() + 3e-9))

    def user_shares(self, prior: float = 2.0) -> NDArray[np.float64]:
        """Class shares of every user's labels, smoothed by ``prior`` labels of the overall shares, [U, 3]."""
        return self._smoothed(np.bincount(self.user * 3 + self.cls, minlength=self.n_users * 3).reshape(-1, 3), prior)

    def shares_of(
        self, side: Literal["user", "item"], users: Ids, items: Ids, prior: float = 2.0
    ) -> NDArray[np.float64]:
        """Class shares of the labels by each pair's user, or on its item, its own left out, smoothed, [P, 3]."""
        return self._smoothed(self.class_counts(side, users, items), prior)

    def _smoothed(self, counts: NDArray[Any], prior: float) -> NDArray[np.float64]:
        return np.asarray((counts + prior * self.class_shares) / (counts.sum(1, keepdims=True) + prior))

    def own(self, users: Ids, items: Ids) -> Ids:
        """Where each pair's own label is among the known ones, [P]; -1 where it is not known."""
        if not len(self):
            return np.full(len(users), -1)
        wanted = users * self.n_items + items
        at = np.minimum(np.searchsorted(self._keys, wanted), len(self) - 1)
        return np.where(self._keys[at] == wanted, at, -1)

    def rows_of_users(self, users: Ids) -> tuple[Ids, Ids]:
        """The known labels of users [P], as row of ``users`` [E] and place among the known labels [E]."""
        return _slices(self._user_starts, users, None)

    def of_users(self, users: Ids, items: Ids, limit: int | None = None) -> Sequences:
        """What each pair's user has labelled, without the pair's own label; at most ``limit`` entries, evenly taken."""
        pair, at = _slices(self._user_starts, users, limit)
        return self._left_out(Sequences(pair, at), users, items)

    def of_items(self, users: Ids, items: Ids, limit: int | None = None) -> Sequences:
        """Who has labelled each pair's item, without the pair's own label; at most ``limit`` entries, evenly taken."""
        pair, position = _slices(self._item_starts, items, limit)
        return self._left_out(Sequences(pair, self._by_item[position]), users, items)

    def _left_out(self, sequences: Sequences, users: Ids, items: Ids) -> Sequences:
        pair, at = sequences
        if not self.leave_out:
            return sequences
        keep = (self.item[at] != items[pair]) | (self.user[at] != users[pair])
        return Sequences(pair[keep], at[keep])

    def class_counts(self, side: Literal["user", "item"], users: Ids, items: Ids) -> NDArray[np.float64]:
        """Labels of each class by the pair's user (``side`` user) or on its item, its own left out, [P, 3]."""
        ids, size = (self.user, self.n_users) if side == "user" else (self.item, self.n_items)
        table = np.bincount(ids * 3 + self.cls, minlength=size * 3).reshape(size, 3).astype(np.float64)
        counts = table[users if side == "user" else items]
        if self.leave_out:
            own = self.own(users, items)
            known = np.flatnonzero(own >= 0)
            counts[known, self.cls[own[known]]] -= 1
        return counts


def _starts(ids: Ids, size: int) -> Ids:
    return np.concatenate([[0], np.cumsum(np.bincount(ids, minlength=size))])


def _slices(starts: Ids, ids: Ids, limit: int | None) -> tuple[Ids, Ids]:
    """For ids [P] whose rows are starts[id] .. starts[id + 1]: pair [E] and row [E]."""
    length = starts[ids + 1] - starts[ids]
    taken = length if limit is None else np.minimum(length, limit)
    pair = np.repeat(np.arange(len(ids)), taken)
    rank = np.arange(int(taken.sum())) - np.repeat(np.cumsum(taken) - taken, taken)
    step = np.where(taken > 0, length / np.maximum(taken, 1), 1.0)  # 1 unless the limit bites
    return pair, np.repeat(starts[ids], taken) + (rank * np.repeat(step, taken)).astype(np.int64)
