"""Scores of all items for people, from a trained model's arrays; numpy only.

Shapes: P people, I items (row 0 is padding), D width, H heads, n items that a person has watched.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from recbole_mm.model.scoring import Array, ScoringParts

_COPIED = 4_000_000  # numbers, 16 MB
_GATHERED = 256  # rows of item-item weights gathered at a time
_KEPT_MAPS = 50  # people who watched no more films than that share what was computed for as many before
_UNPACKED = 1_000_000  # products: OpenBLAS's limit of a small matrix product


@dataclass(frozen=True)
class Person:
    """What is known of a person: watched item ids [n], history weights z [n] (negative counts against), or a user id.

    ``user`` is the id of a user whom the model was trained on; None for anybody else.
    """

    items: Array
    weights: Array
    user: int | None = None

    @property
    def unknown(self) -> bool:
        """Whether there is nothing to go by but what everybody likes."""
        return self.user is None and not len(self.items)

    @property
    def signs(self) -> Array:
        """1 for what was watched, -1 for what counts against, [n]."""
        return _signs(self.weights)

    def without(self, position: int) -> "Person":
        """The same person, had they not watched the item at ``position``."""
        return Person(np.delete(self.items, position), np.delete(self.weights, position), self.user)


@dataclass(frozen=True)
class Laid:
    """People side by side, each with as many places for watched items as the one who watched most."""

    items: Array  # [P, n], 0 where a place is empty
    weights: Array  # [P, n], 0 there
    there: Array  # [P, n], whether a place is filled
    users: tuple[int | None, ...]

    @classmethod
    def of(cls, people: Sequence[Person]) -> Self:
        """Lay people out."""
        counts = np.array([len(person.items) for person in people])
        there = np.arange(counts.max()) < counts[:, None]
        items, weights = np.zeros(there.shape, dtype=np.int64), np.zeros(there.shape, dtype=np.float32)
        items[there] = np.concatenate([person.items for person in people])
        weights[there] = np.concatenate([person.weights for person in people])
        return cls(items, weights, there, tuple(person.user for person in people))


@dataclass(frozen=True)
class Tastes:
    """People's vectors p: ``own`` [P, D] plus what each watched item adds to it, ``terms`` [P, n, D]."""

    own: Array
    terms: Array

    @property
    def vectors(self) -> Array:
        """The vectors p, [P, D]."""
        return np.asarray(self.own + self.terms.sum(axis=1))


@dataclass(frozen=True)
class Bilinear:
    """A matching as a form of p and q with its normalisers and active units held, for k items i of each person.

    match(p, q_i) = sum_d both_id p_d q_id + of_user_i . p + of_item_i . q_i + constant_i; the last three of MLPs only.
    """

    both: Array  # [P, k, D], or 1 where it is the same for all
    of_user: Array | None = None  # [P, k, D]
    of_item: Array | None = None
    constant: Array | None = None  # [P, k]


def _signs(weights: Array) -> Array:
    """1 for what was watched, -1 for what counts against."""
    return np.copysign(np.float32(1), weights)


def _by_person(people: Sequence[Person], values: Array) -> Array:
    """Values of all watched items [N] laid out by person, [P, N]: a product with it sums faster than reduceat."""
    counts = [len(person.items) for person in people]
    laid = np.zeros((len(people), len(values)), dtype=np.float32)
    laid[np.repeat(np.arange(len(people)), counts), np.arange(len(values))] = values
    return laid


class Scorer:
    """Scores a person by :class:`~recbole_mm.model.scoring.ScoringParts`.

    Args:
        parts: the trained model's arrays.
        fold_in: [3 D + 1, D] of :mod:`recbole_mm.recommend.fold_in`, for people without a trained vector.
    """

    def __init__(self, parts: ScoringParts, fold_in: Array | None = None) -> None:
        self.parts = parts
        self.fold_in = fold_in
        self.norms = None
        self._maps: dict[int, Array] = {}
        if parts.items is not None:
            # a few rows times a matrix that lies the other way cost several times as much; a large one is not copied
            self.columns = parts.items.T if parts.items.size > _COPIED else np.ascontiguousarray(parts.items.T)
        if parts.items is not None and parts.matching == "cosine":
            self.norms = np.maximum(np.linalg.norm(parts.items, axis=1), 1e-12)

    def vectors(self, people: Sequence[Person]) -> Array | None:
        """The people's vectors p, [P, D]; None if the model has no vectors."""
        parts = self.parts
        if parts.items is None:
            return None
        items = np.concatenate([person.items for person in people])
        watched = np.asarray(parts.items[items], dtype=np.float32)  # [N, D], N items in all
        counts = np.array([len(person.items) for person in people])
        own = _by_person(people, _signs(np.concatenate([person.weights for person in people])))
        vectors = np.zeros((len(people), watched.shape[1]), dtype=np.float32)
        if parts.users is not None:
            if self.fold_in is not None:
                n, total = np.maximum(counts, 1).astype(np.float32)[:, None], own @ watched
                folded = np.concatenate([total, total / np.sqrt(n), total / n], axis=1) @ self.fold_in[:-1]
                vectors += folded + self.fold_in[-1]
            known = {row: person.user for row, person in enumerate(people) if person.user is not None}
            if known:
                vectors[list(known)] = parts.users[list(known.values())]
        if parts.pooling is not None and len(items):
            attention = parts.pooling[items]  # [N, H]
            heads = (watched.reshape(*attention.shape, -1) * attention[:, :, None]).reshape(watched.shape)
            whole = np.maximum(np.abs(own) @ attention, 1e-9)[:, :, None]  # [P, H, 1]
            vectors += ((own @ heads).reshape(*whole.shape[:2], -1) / whole).reshape(vectors.shape)
        return vectors

    def tastes(self, people: Laid) -> Tastes:
        """What people's vectors are made of, for models that have vectors."""
        parts = self.parts
        assert parts.items is not None
        (n_people, n), width = people.items.shape, parts.items.shape[1]
        signs = _signs(people.weights) * people.there
        watched = np.asarray(parts.items[people.items], dtype=np.float32) * signs[:, :, None]  # [P, n, D]
        own, terms = np.zeros((n_people, width), dtype=np.float32), np.zeros_like(watched)
        if parts.users is not None:
            if self.fold_in is not None:
                own += self.fold_in[-1]
                counts = people.there.sum(axis=1)
                for count in set(counts.tolist()) - {0}:
                    alike = counts == count
                    some = watched[alike]
                    terms[alike] = (some.reshape(-1, width) @ self._map(count)).reshape(some.shape)
            for row, user in enumerate(people.users):
                if user is not None:
                    own[row], terms[row] = parts.users[user], 0
        if parts.pooling is not None and n:
            attention = parts.pooling[people.items] * people.there[:, :, None]  # [P, n, H]
            share = attention / np.maximum(attention.sum(axis=1, keepdims=True), 1e-9)
            terms += (watched.reshape(*share.shape, -1) * share[..., None]).reshape(watched.shape)
        return Tastes(own, terms)

    def _map(self, n: int) -> Array:
        """W_0 + W_1 / sqrt(n) + W_2 / n of :mod:`recbole_mm.recommend.fold_in`, [D, D], for n items watched."""
        found = self._maps.get(n)
        if found is None:
            assert self.fold_in is not None
            width = self.fold_in.shape[1]
            whole, by_root, by_n = self.fold_in[:-1].reshape(3, width, width)
            found = np.asarray(whole + by_root * np.float32(n**-0.5) + by_n * np.float32(1 / n))
            if n <= _KEPT_MAPS:
                self._maps[n] = found
        return found

    def scores(self, people: Sequence[Person], vectors: Array | None = None) -> Array:
        """Scores of all items for each person, [P, I]; the model's own, without any preference on top.

        ``vectors`` [P, D] are the people's, where they are at hand.
        """
        parts = self.parts
        vectors = self.vectors(people) if vectors is None else vectors
        total = np.zeros((len(people), self.n_items), dtype=np.float32) if vectors is None else self.match(vectors)
        if parts.bias is not None:
            total += parts.bias
        if parts.item_item is not None:
            every = np.concatenate([person.items for person in people])
            if len(every) <= _GATHERED:
                total += _by_person(people, np.concatenate([p.weights for p in people])) @ parts.item_item[every]
            else:
                for row, person in enumerate(people):
                    total[row] += person.weights @ parts.item_item[person.items]
        return total

    @property
    def n_items(self) -> int:
        """I."""
        for array in (self.parts.items, self.parts.bias, self.parts.item_item):
            if array is not None:
                return len(array)
        raise AssertionError("a model without any part")

    def match(self, vectors: Array) -> Array:
        """How well people's vectors [P, D] fit every item, [P, I]."""
        parts = self.parts
        assert parts.items is not None
        if parts.matching == "dot":
            return self._products(vectors)
        if parts.matching == "cosine":
            lengths = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
            return np.asarray(self._products(vectors / (lengths * np.float32(parts.temperature))) / self.norms)
        hidden = (self._hidden(vector, parts.items) for vector in vectors)
        return np.stack([np.maximum(units, 0.0) @ parts.mlp["out"][0] for units in hidden])

    def _products(self, vectors: Array) -> Array:
        """Vectors @ items', [P, I]; as many rows at a time as BLAS multiplies without packing, which takes a third."""
        rows = _UNPACKED // self.columns.size
        if not 1 <= rows < len(vectors):
            return np.asarray(vectors @ self.columns)
        result = np.empty((len(vectors), self.columns.shape[1]), dtype=np.float32)
        for start in range(0, len(vectors), rows):
            part = slice(start, start + rows)
            np.matmul(vectors[part], self.columns, out=result[part])
        return result

    def _hidden(self, vector: Array, items: Array) -> Array:
        """The MLP's hidden units before ReLU, [k, hidden]."""
        mlp = self.parts.mlp
        of_user = mlp["of_user"] @ vector + mlp["user_bias"]
        # of_both(p * q) = (of_both * p) q: one product with the items instead of two
        return np.asarray(items @ (mlp["of_item"] + mlp["of_both"] * vector).T + of_user)

    def bilinear(self, vectors: Array, items: Array) -> Bilinear:
        """The matching of people's vectors [P, D] with items' vectors [P, k, D], its normalisers held."""
        parts = self.parts
        if parts.matching == "dot":
            return Bilinear(np.ones((1, 1, 1), dtype=np.float32))
        if parts.matching == "cosine":
            size = np.linalg.norm(items, axis=2) * np.linalg.norm(vectors, axis=1, keepdims=True) * parts.temperature
            return Bilinear(1 / np.maximum(size, 1e-12)[:, :, None])
        mlp = parts.mlp
        hidden = np.stack([self._hidden(vector, some) for vector, some in zip(vectors, items, strict=True)])
        active = (hidden > 0) * mlp["out"][0]  # [P, k, hidden]
        return Bilinear(
            active @ mlp["of_both"], active @ mlp["of_user"], active @ mlp["of_item"], active @ mlp["user_bias"]
        )
