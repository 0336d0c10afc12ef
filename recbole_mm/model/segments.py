"""Segments of the items (frames of a trailer, chunks of its sound, windows of a text) as tokens of attention.

Shapes: I items (row 0 is padding), M modalities, T tokens of an item, U items asked for, D width.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recbole_mm.model.fusion import ModalityBank, standardise


class SegmentBank(nn.Module):
    """The frozen segments of those modalities that have some, memory-mapped; standardised where they are used.

    An item with a vector but without segments has that vector as its only one. Of more than ``most`` segments, ``most``
    evenly spread ones are taken.
    """

    def __init__(self, dataset: Any, bank: ModalityBank, most: int) -> None:
        super().__init__()
        self.vectors: dict[str, NDArray[Any]] = {}  # [S, F_m], in the file's dtype
        for number, name in enumerate(bank.names):
            found = dataset.modality(name).segments() if most else None
            if found is None or not len(found[0].vectors):
                continue
            segments, first, count = found
            self.vectors[name] = segments.vectors
            self.register_buffer(f"mean_{name}", getattr(bank, f"mean_{name}"), persistent=False)
            rows = _spread(first, count, most)
            alone = np.flatnonzero(bank.mask[:, number].numpy() & (count == 0))
            rows[alone, 0] = len(segments.vectors) + alone  # beyond the segments: the item's own vector
            self.register_buffer(f"rows_{name}", torch.from_numpy(rows), persistent=False)  # [I, T_m], -1: none

    @property
    def longest(self) -> int:
        """Most segments that an item has in a modality."""
        return max((self.rows(name).shape[1] for name in self.vectors), default=0)

    def rows(self, name: str) -> Tensor:
        """Rows of an item's segments in the table of this modality, [I, T_m]; -1 where it has no more."""
        found: Tensor = getattr(self, f"rows_{name}")
        return found

    def of(self, name: str, items: Tensor, single: Tensor) -> tuple[Tensor, Tensor]:
        """Standardised segments of some items, those that are there [K, F_m], and where they are [U, T_m].

        ``single`` [I, F_m] are all items' standardised vectors.
        """
        rows = self.rows(name)[items]
        present = rows >= 0
        wanted = rows[present]
        own = wanted >= len(self.vectors[name])
        found = single.new_empty(len(wanted), single.shape[1])
        read = torch.from_numpy(np.asarray(self.vectors[name][wanted[~own].numpy()], np.float32))
        found[~own] = standardise(read, torch.ones(len(read), dtype=torch.bool), getattr(self, f"mean_{name}"))
        found[own] = single[wanted[own] - len(self.vectors[name])]
        return found, present

    def exchange(self, name: str, source: Tensor) -> None:
        """Give item i the segments of item ``source[i]``; source [I]."""
        if name in self.vectors:
            self.rows(name).copy_(self.rows(name)[source])


def _spread(first: NDArray[np.int64], count: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Rows of each item's segments, [I, T], -1 beyond them."""
    longest = int(min(most, max(1, count.max(initial=1))))
    place = np.arange(longest)
    taken = np.minimum(count, longest)[:, None]
    rows = first[:, None] + place * count[:, None] // np.maximum(taken, 1)
    return np.where(place < taken, rows, -1)


class SegmentTokens(nn.Module):
    """Tokens of an item: its segments where a modality has some, else its one vector; each with its kind and place."""

    def __init__(self, bank: ModalityBank, segments: SegmentBank, size: int) -> None:
        super().__init__()
        self.bank, self.segments, self.size = bank, segments, size
        self.place = nn.Parameter(torch.randn(segments.longest, size) * size**-0.5)  # which segment, by its number

    def forward(
        self, items: Tensor, single: Tensor, project: Mapping[str, nn.Module], kind: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Tokens [U, T, D] and which are present [U, T] of items [U], whose single vectors are projected already.

        ``single`` [I, M, D] are all items' modality vectors with their kinds ``kind`` [M, D].
        """
        tokens, present = [], []
        for number, name in enumerate(self.bank.names):
            if name not in self.segments.vectors:
                tokens.append(single[items, number].unsqueeze(1))
                present.append(self.bank.mask[items, number].unsqueeze(1))
                continue
            found, there = self.segments.of(name, items, self.bank.vectors(name))
            placed = torch.zeros(*there.shape, self.size)
            placed[there] = project[name](found) + kind[number] + self.place[there.nonzero()[:, 1]]
            tokens.append(placed)
            present.append(there)
        return torch.cat(tokens, dim=1), torch.cat(present, dim=1)
