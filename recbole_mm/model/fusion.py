"""Fusing the modalities of an item into one vector, missing ones masked.

Shapes: N items, M modalities, F_m width of modality m, D fused width.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from recbole_mm.errors import FeatureError
from recbole_mm.model.scoring import NewItems

FusionName = Literal["concat", "mean", "gated", "attention"]


def centre(vectors: Tensor, mask: Tensor) -> Tensor:
    """The mean of the items that have a vector, [F]."""
    return (vectors.float() * mask.unsqueeze(1)).sum(0) / mask.sum().clamp(min=1)


def standardise(vectors: Tensor, mask: Tensor, mean: Tensor | None = None) -> Tensor:
    """Take the mean off, then scale each vector to unit length; those of items without one are zero. [N, F].

    The mean is that of the items given, or the one of other items that these are to be compared with.
    """
    mean = centre(vectors, mask) if mean is None else mean
    return nn.functional.normalize((vectors.float() - mean) * mask.unsqueeze(1), dim=1)


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
            mean = centre(vectors, mask)
            self.register_buffer(f"mean_{name}", mean, persistent=False)
            self.register_buffer(f"vectors_{name}", standardise(vectors, mask, mean), persistent=False)
            masks.append(mask)
        self.register_buffer("mask", torch.stack(masks, dim=1), persistent=False)  # [N, M]

    def vectors(self, name: str) -> Tensor:
        """All items' vectors of one modality, [N, F_m]."""
        found: Tensor = getattr(self, f"vectors_{name}")
        return found

    def exchange(self, name: str, source: Tensor) -> None:
        """Give item i the vector of item ``source[i]``, in place; source [I]."""
        self.vectors(name).copy_(self.vectors(name)[source])

    def extended(self, new: NewItems | None) -> tuple[dict[str, Tensor], Tensor]:
        """Vectors by modality, [N + n, F_m] each, and mask [N + n, M], with n new items behind those of the data set.

        Raises:
            FeatureError: a new vector has another width than the data set's.
        """
        vectors, mask = {name: self.vectors(name) for name in self.names}, self.mask
        if new is None:
            return vectors, mask
        present = []
        for name, own in vectors.items():
            mean: Tensor = getattr(self, f"mean_{name}")
            has = torch.from_numpy(new.masks[name]).to(mean.device)
            given = torch.from_numpy(new.vectors[name]).to(mean.device)
            if given.shape != (len(has), len(mean)):
                raise FeatureError(
                    f"modality '{name}' of new items has shape {tuple(given.shape)}; expected {(len(has), len(mean))}"
                )
            vectors[name] = torch.cat([own, standardise(given, has, mean)])
            present.append(has)
        return vectors, torch.cat([mask, torch.stack(present, dim=1)])

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
        tokens = self._tokens(vectors, mask)
        has = mask.unsqueeze(-1)
        fused: Tensor
        if self.how == "concat":
            fused = self.out(tokens.flatten(1))
        elif self.how == "mean":
            fused = tokens.sum(1) / has.sum(1).clamp(min=1)
        elif self.how == "gated":
            fused = (self._gates(tokens, has) * tokens).sum(1)
        else:
            query, keys, absent = self._attended(tokens, mask)
            fused = self.attention(query, keys, keys, key_padding_mask=absent, need_weights=False)[0].squeeze(1)
        return fused

    def parts(self, vectors: Mapping[str, Tensor], mask: Tensor) -> dict[str, Tensor]:
        """What each modality adds to the fused vector, [N, D] each: exactly what is missing when it is silenced.

        Gates, attention weights and the number of modalities present are held as they are. The query token of
        attention fusion and its bias belong to no modality.
        """
        tokens, has = self._tokens(vectors, mask), mask.unsqueeze(-1)
        if self.how == "concat":
            blocks = self.out.weight.view(self.out.out_features, len(self.names), -1)  # [D, M, D]
            added = torch.einsum("nmd,omd->nmo", tokens, blocks)
        elif self.how == "mean":
            added = tokens / has.sum(1, keepdim=True).clamp(min=1)
        elif self.how == "gated":
            added = self._gates(tokens, has) * tokens
        else:
            added = self._attention_parts(tokens, mask)
        return {name: added[:, index] for index, name in enumerate(self.names)}

    def _tokens(self, vectors: Mapping[str, Tensor], mask: Tensor) -> Tensor:
        """Projected modalities, [N, M, D]; masked here and not only upstream: a missing vector must not be heard."""
        tokens = torch.stack([self.projections[name](vectors[name]) for name in self.names], dim=1)
        masked: Tensor = self.dropout(torch.where(mask.unsqueeze(-1), tokens, 0.0))
        return masked

    def _gates(self, tokens: Tensor, has: Tensor) -> Tensor:
        """Softmax over the modalities present, [N, M, 1]; zero where there is none at all."""
        return torch.nan_to_num(torch.softmax(self.gate(tokens).masked_fill(~has, float("-inf")), dim=1))

    def _attended(self, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Query [N, 1, D], keys [N, 1 + M, D] with the query first, and which keys are absent [N, 1 + M]."""
        query = self.query.expand(len(tokens), -1, -1)
        keys = torch.cat([query, torch.where(mask.unsqueeze(-1), tokens + self.kind, 0.0)], dim=1)
        return query, keys, torch.cat([torch.zeros_like(mask[:, :1]), ~mask], dim=1)

    def _attention_parts(self, tokens: Tensor, mask: Tensor) -> Tensor:
        query, keys, absent = self._attended(tokens, mask)
        layer = self.attention
        weight = layer(query, keys, keys, key_padding_mask=absent, average_attn_weights=False)[1]  # [N, H, 1, 1 + M]
        size = keys.shape[-1]
        values = nn.functional.linear(keys, layer.in_proj_weight[2 * size :])
        values = values.view(*keys.shape[:2], layer.num_heads, -1)
        heard = (values * weight.squeeze(2).transpose(1, 2).unsqueeze(-1)).flatten(2)
        added: Tensor = nn.functional.linear(heard, layer.out_proj.weight)[:, 1:]
        return added
