"""Fusing the modalities of an item into one vector, missing ones masked.

Shapes: N items, M modalities, F_m width of modality m, D fused width.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

FusionName = Literal["concat", "mean", "gated", "attention"]


def standardise(vectors: Tensor, mask: Tensor) -> Tensor:
    """Centre over the items that have a vector, then scale each to unit length; the others are zero. [N, F]."""
    vectors = vectors.float()
    has = mask.unsqueeze(1)
    mean = (vectors * has).sum(0) / mask.sum().clamp(min=1)
    return nn.functional.normalize((vectors - mean) * has, dim=1)


class ModalityBank(nn.Module):
    """The frozen, standardised features of all items, by modality; buffers, not part of a checkpoint."""

    mask: Tensor

    def __init__(self, dataset: Any, names: Sequence[str]) -> None:
        super().__init__()
        self.names = tuple(names)
        masks = []
        for name in self.names:
            mask = torch.from_numpy(dataset.modality(name).mask)
            vectors = torch.from_numpy(dataset.get_preload_weight(name))
            self.register_buffer(f"vectors_{name}", standardise(vectors, mask), persistent=False)
            masks.append(mask)
        self.register_buffer("mask", torch.stack(masks, dim=1), persistent=False)  # [N, M]

    def vectors(self, name: str) -> Tensor:
        """All items' vectors of one modality, [N, F_m]."""
        found: Tensor = getattr(self, f"vectors_{name}")
        return found

    @property
    def widths(self) -> dict[str, int]:
        """F_m by modality."""
        return {name: self.vectors(name).shape[1] for name in self.names}


class Fusion(nn.Module):
    """Project each modality to D, then fuse.

    - ``concat``: W [x_1; ...; x_M], a missing x_m zero;
    - ``mean``: the mean of those present;
    - ``gated``: sum of g_m x_m, g = softmax over those present of w tanh(V x_m) (Arevalo et al., 2017, with a softmax);
    - ``attention``: a learned query attends, with several heads, over the modality tokens present (Vaswani et al.,
      2017); the query is a token itself, so that an item without any modality is defined.
    """

    def __init__(self, widths: Mapping[str, int], size: int, *, how: FusionName, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.how, self.names = how, tuple(widths)
        self.projections = nn.ModuleDict({name: nn.Linear(width, size, bias=False) for name, width in widths.items()})
        self.dropout = nn.Dropout(dropout)
        if how == "concat":
            self.out = nn.Linear(size * len(self.names), size, bias=False)
        elif how == "gated":
            self.gate = nn.Sequential(nn.Linear(size, size), nn.Tanh(), nn.Linear(size, 1, bias=False))
        elif how == "attention":
            self.kind = nn.Parameter(torch.empty(len(self.names), size))
            self.query = nn.Parameter(torch.empty(1, 1, size))
            nn.init.normal_(self.kind, std=size**-0.5)
            nn.init.normal_(self.query, std=size**-0.5)
            self.attention = nn.MultiheadAttention(size, n_heads, batch_first=True)

    def forward(self, vectors: Mapping[str, Tensor], mask: Tensor) -> Tensor:
        """Vectors by modality, each [N, F_m], and mask [N, M] to fused vectors [N, D]."""
        tokens = torch.stack([self.projections[name](vectors[name]) for name in self.names], dim=1)  # [N, M, D]
        has = mask.unsqueeze(-1)
        # masked here and not only upstream: whatever stands in a missing vector, it must not be heard
        tokens = self.dropout(torch.where(has, tokens, 0.0))
        fused: Tensor
        if self.how == "concat":
            fused = self.out(tokens.flatten(1))
        elif self.how == "mean":
            fused = tokens.sum(1) / has.sum(1).clamp(min=1)
        elif self.how == "gated":
            gate = self.gate(tokens).masked_fill(~has, float("-inf"))
            gate = torch.nan_to_num(torch.softmax(gate, dim=1))  # no modality at all: no gate, a zero vector
            fused = (gate * tokens).sum(1)
        else:
            fused = self._attend(torch.where(has, tokens + self.kind, 0.0), mask)
        return fused

    def _attend(self, tokens: Tensor, mask: Tensor) -> Tensor:
        query = self.query.expand(len(tokens), -1, -1)
        keys = torch.cat([query, tokens], dim=1)
        absent = torch.cat([torch.zeros_like(mask[:, :1]), ~mask], dim=1)
        fused: Tensor = self.attention(query, keys, keys, key_padding_mask=absent, need_weights=False)[0]
        return fused.squeeze(1)
