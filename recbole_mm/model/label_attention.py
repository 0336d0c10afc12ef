"""Attention over ragged sequences of labels, and over an item's modalities.

Shapes: B pairs, E entries of their sequences, D width, H heads, T tokens.
"""

import torch
from torch import Tensor, nn


class SequenceAttention(nn.Module):
    """Multi-head attention of one query a pair over its own sequence (Vaswani et al., 2017).

    A learnt entry stands in every sequence: the softmax over an empty one is defined, and a pair can attend to nothing.
    """

    def __init__(self, size: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.query, self.key, self.value = (nn.Linear(size, size) for _ in range(3))
        self.nothing = nn.Parameter(torch.zeros(1, size))
        self.out = nn.Linear(size, size)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, query: Tensor, keys: Tensor, values: Tensor, pair: Tensor, entry: Tensor, weight: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Query [B, D] attends to keys and values [N, D] at ``entry`` [E] of ``pair`` [E].

        ``weight`` [E] scales the values (the GL-score). Answers [B, D] and the attention of each entry [E, H].
        """
        size = (len(query), self.n_heads, -1)
        q = self.query(query).view(size)
        k = self.key(torch.cat([keys, self.nothing])).view(len(keys) + 1, self.n_heads, -1)
        v = self.value(torch.cat([values, self.nothing])).view(len(keys) + 1, self.n_heads, -1)
        scale = q.shape[-1] ** -0.5
        logit = (q[pair] * k[entry]).sum(-1) * scale  # [E, H]
        idle = (q * k[-1]).sum(-1) * scale  # [B, H]
        top = idle.scatter_reduce(0, pair[:, None].expand_as(logit), logit, "amax").detach()
        raised, idle = torch.exp(logit - top[pair]), torch.exp(idle - top)
        bottom = idle.index_add(0, pair, raised)
        attention = raised / bottom[pair]
        told = attention * weight[:, None]
        pooled = (idle / bottom)[..., None] * v[-1]
        pooled = pooled.index_add(0, pair, told[..., None] * v[entry])
        return self.dropout(self.out(pooled.flatten(1))), attention


class ResidualBlock(nn.Module):
    """x + f(x), normalised: the feed-forward d -> d/2 -> d of the source."""

    def __init__(self, size: int, dropout: float) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.Linear(size, size // 2), nn.ReLU(), nn.Linear(size // 2, size), nn.Dropout(dropout)
        )
        self.norm = nn.LayerNorm(size)

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] to [..., D]."""
        found: Tensor = self.norm(x + self.inner(x))
        return found


class TokenAttention(nn.Module):
    """Self-attention among a pair's few tokens with residual and LayerNorm, absent ones masked."""

    def __init__(self, size: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(size, n_heads, dropout=dropout, batch_first=True)
        self.norm = nn.LayerNorm(size)

    def forward(self, query: Tensor, tokens: Tensor, present: Tensor) -> Tensor:
        """Query [B, Q, D] over tokens [B, T, D] where ``present`` [B, T]; a pair without a token keeps its query."""
        some = present.any(1)
        seen = present | ~some[:, None]  # a softmax over nothing is not defined; what it answers is dropped below
        found = self.attention(query, tokens, tokens, key_padding_mask=~seen, need_weights=False)[0]
        result: Tensor = self.norm(query + found * some[:, None, None])
        return result
