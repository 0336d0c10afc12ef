"""Scores of all items for a person, from a trained model's arrays; numpy only.

Shapes: I items (row 0 is padding), D width, H heads, n items that the person has watched.
"""

from dataclasses import dataclass

import numpy as np

from recbole_mm.model.scoring import Array, ScoringParts


@dataclass(frozen=True)
class Person:
    """What is known of a person: watched item ids [n], history weights z [n] (negative counts against), or a user id.

    ``user`` is the id of a user whom the model was trained on; None for anybody else.
    """

    items: Array
    weights: Array
    user: int | None = None

    @property
    def signs(self) -> Array:
        """1 for what was watched, -1 for what counts against, [n]."""
        return np.copysign(np.float32(1), self.weights)

    def without(self, position: int) -> "Person":
        """The same person, had they not watched the item at ``position``."""
        return Person(np.delete(self.items, position), np.delete(self.weights, position), self.user)


@dataclass(frozen=True)
class Taste:
    """A person's vector p: ``own`` [D] plus what each watched item adds to it, ``terms`` [n, D]."""

    own: Array
    terms: Array

    @property
    def vector(self) -> Array:
        """The vector p, [D]."""
        return np.asarray(self.own + self.terms.sum(axis=0))


@dataclass(frozen=True)
class Bilinear:
    """A matching as a form of p and q with its normalisers and active units held, for items i.

    match(p, q_i) = sum_d both_id p_d q_id + of_user_i . p + of_item_i . q_i + constant_i
    """

    both: Array  # [k, D] or [1, D]
    of_user: Array
    of_item: Array
    constant: Array  # [k] or [1]


def _shares(attention: Array, signs: Array) -> Array:
    """Each watched item's share of a head's attention [n, H], negative for what counts against."""
    return np.asarray(attention / np.maximum(attention.sum(axis=0), 1e-9) * signs[:, None])


def person_map(fold_in: Array, n: int) -> Array:
    """W_0 + W_1 / sqrt(n) + W_2 / n of :mod:`recbole_mm.recommend.fold_in`, [D, D], for n items watched."""
    width = fold_in.shape[1]
    whole, by_root, by_n = fold_in[:-1].reshape(3, width, width)
    return np.asarray(whole + by_root * np.float32(n**-0.5) + by_n * np.float32(1 / n))


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
        if parts.items is not None and parts.matching == "cosine":
            self.norms = np.maximum(np.linalg.norm(parts.items, axis=1), 1e-12)

    def vector(self, person: Person) -> Array | None:
        """The person's vector p, [D]; None if the model has no vectors."""
        parts = self.parts
        if parts.items is None:
            return None
        watched, signs = np.asarray(parts.items[person.items], dtype=np.float32), person.signs
        vector = np.zeros(watched.shape[1], dtype=np.float32)
        if parts.users is not None:
            if person.user is not None:
                vector += parts.users[person.user]
            elif self.fold_in is not None:
                vector += self.fold_in[-1]
                if len(signs):
                    n, total = len(signs), signs @ watched
                    vector += np.concatenate([total, total * n**-0.5, total / n]) @ self.fold_in[:-1]
        if parts.pooling is not None and len(signs):
            share = _shares(parts.pooling[person.items], signs)
            vector += (watched.reshape(*share.shape, -1) * share[:, :, None]).sum(axis=0).ravel()
        return vector

    def taste(self, person: Person) -> Taste | None:
        """What the person's vector is made of; None if the model has no vectors."""
        parts = self.parts
        if parts.items is None:
            return None
        watched, signs = np.asarray(parts.items[person.items], dtype=np.float32), person.signs[:, None]
        own = np.zeros(watched.shape[1], dtype=np.float32)
        terms = np.zeros_like(watched)
        if parts.users is not None:
            if person.user is not None:
                own = own + parts.users[person.user]
            elif self.fold_in is not None:
                own = own + self.fold_in[-1]
                if len(signs):
                    terms += (watched * signs) @ person_map(self.fold_in, len(signs))
        if parts.pooling is not None and len(signs):
            share = _shares(parts.pooling[person.items], person.signs)
            terms += (watched.reshape(*share.shape, -1) * share[:, :, None]).reshape(watched.shape)
        return Taste(own, terms)

    def scores(self, person: Person) -> Array:
        """Scores of all items, [I]; the model's own, without any preference on top."""
        parts, vector = self.parts, self.vector(person)
        total = np.zeros(self.n_items, dtype=np.float32) if vector is None else self.match(vector)
        if parts.bias is not None:
            total += parts.bias
        if parts.item_item is not None and len(person.items):
            total += person.weights.astype(np.float32) @ parts.item_item[person.items]
        return total

    @property
    def n_items(self) -> int:
        """I."""
        for array in (self.parts.items, self.parts.bias, self.parts.item_item):
            if array is not None:
                return len(array)
        raise AssertionError("a model without any part")

    def match(self, vector: Array) -> Array:
        """How well a person's vector [D] fits every item, [I]."""
        parts = self.parts
        assert parts.items is not None
        if parts.matching == "dot":
            return np.asarray(parts.items @ vector)
        if parts.matching == "cosine":
            length = max(float(np.linalg.norm(vector)), 1e-12)
            return np.asarray(parts.items @ (vector / np.float32(length * parts.temperature)) / self.norms)
        return np.asarray(np.maximum(self._hidden(vector, parts.items), 0.0) @ parts.mlp["out"][0])

    def _hidden(self, vector: Array, items: Array) -> Array:
        """The MLP's hidden units before ReLU, [k, hidden]."""
        mlp = self.parts.mlp
        of_user = mlp["of_user"] @ vector + mlp["user_bias"]
        # of_both(p * q) = (of_both * p) q: one product with the items instead of two
        return np.asarray(items @ (mlp["of_item"] + mlp["of_both"] * vector).T + of_user)

    def bilinear(self, vector: Array, items: Array) -> Bilinear:
        """The matching of a person's vector [D] with items' vectors [k, D], its normalisers held."""
        parts, width = self.parts, items.shape[1]
        none, zero = np.zeros((1, width), dtype=np.float32), np.zeros(1, dtype=np.float32)
        if parts.matching == "dot":
            return Bilinear(none + 1, none, none, zero)
        if parts.matching == "cosine":
            size = np.linalg.norm(items, axis=1) * np.linalg.norm(vector) * parts.temperature
            return Bilinear(np.repeat(1 / np.maximum(size, 1e-12)[:, None], width, axis=1), none, none, zero)
        mlp = parts.mlp
        active = (self._hidden(vector, items) > 0) * mlp["out"][0]  # [k, hidden]
        return Bilinear(
            active @ mlp["of_both"], active @ mlp["of_user"], active @ mlp["of_item"], active @ mlp["user_bias"]
        )
