"""Segments of the items (frames of a trailer, chunks of its sound, windows of a text) as tokens of attention.

Shapes: I items (row 0 is padding), M modalities, T tokens of an item, U items asked for, D width.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recbole_mm.features import Segments
from recbole_mm.model.fusion import ModalityBank, standardise


class SegmentBank(nn.Module):
    """The frozen, standardised segments of those modalities that have some; buffers, not part of a checkpoint.

    An item with a vector but without segments has that vector as its only one. Of more than ``most`` segments, ``most``
    evenly spread ones are taken.
    """

    def __init__(self, dataset: Any, bank: ModalityBank, most: int) -> None:
        super().__init__()
        self.names: tuple[str, ...] = ()
        for number, name in enumerate(bank.names):
            found = dataset.modality(name).segments() if most else None
            if found is None or not len(found.vectors):
                continue
            self.names += (name,)
            mean = getattr(bank, f"mean_{name}")
            rows = _spread(found, most, bank.mask[:, number].numpy())
            vectors = torch.from_numpy(np.asarray(found.vectors, np.float32))
            whole = torch.ones(len(vectors), dtype=torch.bool)
            table = torch.cat([standardise(vectors, whole, mean), bank.vectors(name)])
            self.register_buffer(f"vectors_{name}", table, persistent=False)  # [S + I, F_m]
            self.register_buffer(f"rows_{name}", torch.from_numpy(rows), persistent=False)  # [I, T_m], -1: none

    @property
    def longest(self) -> int:
        """Most segments that an item has in a modality."""
        return max((self.rows(name).shape[1] for name in self.names), default=0)

    def rows(self, name: str) -> Tensor:
        """Rows of an item's segments in the table of this modality, [I, T_m]; -1 where it has no more."""
        found: Tensor = getattr(self, f"rows_{name}")
        return found

    def tokens(self, name: str, items: Tensor, project: nn.Module, size: int) -> tuple[Tensor, Tensor]:
        """Projected segments of some items [U, T_m, D], absent ones zero, and which are present [U, T_m]."""
        rows = self.rows(name)[items]
        present = rows >= 0
        table: Tensor = getattr(self, f"vectors_{name}")
        tokens = torch.zeros(*rows.shape, size)
        tokens[present] = project(table[rows[present]])
        return tokens, present

    def exchange(self, name: str, source: Tensor) -> None:
        """Give item i the segments of item ``source[i]``; source [I]."""
        if name in self.names:
            self.rows(name).copy_(self.rows(name)[source])


def _spread(segments: Segments, most: int, has: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Rows of each item's segments, [I, T], -1 beyond; row S + i is the vector of item i itself."""
    counts = segments.counts
    longest = int(min(most, max(1, counts.max(initial=1))))
    place = np.arange(longest)
    taken = np.minimum(counts, longest)[:, None]
    rows = segments.starts[:-1, None] + place * counts[:, None] // np.maximum(taken, 1)
    rows = np.where(place < taken, rows, -1)
    alone = np.flatnonzero(has & (counts == 0))
    rows[alone, 0] = len(segments.vectors) + alone
    return rows


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
            if name not in self.segments.names:
                tokens.append(single[items, number].unsqueeze(1))
                present.append(self.bank.mask[items, number].unsqueeze(1))
                continue
            found, there = self.segments.tokens(name, items, project[name], self.size)
            placed = found + kind[number] + self.place[: found.shape[1]]
            tokens.append(torch.where(there.unsqueeze(-1), placed, 0.0))
            present.append(there)
        return torch.cat(tokens, dim=1), torch.cat(present, dim=1)
