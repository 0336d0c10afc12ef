"""How alike two films are by their modalities, from the frozen features that the run was trained on.

Vectors are centred over the items and of unit length, so that a product is a cosine. Shapes: I items, n watched.
"""

from collections.abc import Mapping

import numpy as np

from recbole_mm.errors import RequestError, nearest
from recbole_mm.model.scoring import Array

_BLOCK = 65_536  # rows converted to float32 at a time


class Content:
    """The features of all items by modality, [I, F] each (float16, memory-mapped), and which are there, [I, M]."""

    def __init__(self, features: Mapping[str, Array], mask: Array) -> None:
        self.features = dict(features)
        self.names = tuple(features)
        self.mask = mask

    def check(self, name: str) -> None:
        """Refuse an unknown modality.

        Raises:
            RequestError: there is no such modality.
        """
        if name not in self.features:
            have = ", ".join(self.names) or "none"
            raise RequestError(f"no modality '{name}' (the run has: {have}){nearest(name, self.names)}")

    def to_vector(self, name: str, vector: Array) -> Array:
        """Products of all items' vectors with one vector [F], [I]."""
        table = self.features[name]
        return np.concatenate(
            [table[start : start + _BLOCK].astype(np.float32) @ vector for start in range(0, len(table), _BLOCK)]
        )

    def profile(self, name: str, items: Array, weights: Array) -> Array:
        """The weighted mean of items' vectors, [F]; weights [n] may be negative."""
        vectors = self.features[name][items].astype(np.float32)
        return np.asarray(weights @ vectors / max(float(np.abs(weights).sum()), 1e-12))

    def shares(self, name: str, items: Array, watched: Array, weights: Array) -> Array:
        """What each watched item adds to the product of items' vectors with the profile, [k, n]."""
        table = self.features[name]
        cosines = table[items].astype(np.float32) @ table[watched].astype(np.float32).T
        return np.asarray(cosines * (weights / max(float(np.abs(weights).sum()), 1e-12)))

    def similar(self, item: int, by: str | None = None) -> Array:
        """Cosine of an item with every item, [I]: by one modality, or the mean over those that both items have.

        Raises:
            RequestError: the item has no vector of that modality.
        """
        names = self.names if by is None else (by,)
        held = [name for name in names if self.mask[item, self.names.index(name)]]
        if not held:
            raise RequestError(f"this film has no {by or 'feature'} to compare by; choose another modality")
        columns = [self.names.index(name) for name in held]
        total = sum(self.to_vector(name, self.features[name][item].astype(np.float32)) for name in held)
        shared = self.mask[:, columns].sum(axis=1)
        return np.where(shared > 0, total / np.maximum(shared, 1), -np.inf).astype(np.float32)

    def among(self, items: Array) -> Array:
        """Mean cosine of every pair of the items given, [n, n], over the modalities that both have; 0 where none."""
        total, shared = np.zeros((len(items), len(items)), np.float32), np.zeros((len(items), len(items)), np.float32)
        for index, name in enumerate(self.names):
            vectors = self.features[name][items].astype(np.float32)
            both = np.outer(self.mask[items, index], self.mask[items, index])
            total += (vectors @ vectors.T) * both
            shared += both
        return np.asarray(total / np.maximum(shared, 1))
