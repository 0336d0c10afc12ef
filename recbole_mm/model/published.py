"""The cross-attention network and the dense network of the GL-score's paper, on two vectors a modality.

Source: Mondal et al., IEEE Transactions on Consumer Electronics 2023. Shapes: B pairs, F width of a modality, D width.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from recbole_mm.model.label_attention import ResidualBlock


class PublishedAttention(nn.Module):
    """Per modality user -> movie and movie -> user attention, concatenation, self-attention, feed-forward, head.

    With the axes put right, each sequence is one vector: the softmax is the constant 1 and attention a linear map.
    ``over_batch`` feeds [B, 1, D] to attention that expects [sequence, batch, D], as the notebooks did: each pair
    attends to the other pairs of its batch, in evaluation too.
    """

    def __init__(self, widths: Mapping[str, int], size: int, n_heads: int, dropout: float, *, over_batch: bool) -> None:
        super().__init__()
        self.names, self.over_batch = tuple(widths), over_batch
        pieces = {name: ("user", "movie") for name in self.names}
        self.project = nn.ModuleDict(
            {f"{n}_{s}": nn.Linear(widths[n], size) for n, sides in pieces.items() for s in sides}
        )
        self.cross = nn.ModuleDict({key: self._attention(size, n_heads, dropout) for key in self.project})
        self.cross_norm = nn.ModuleDict({key: nn.LayerNorm(size) for key in self.project})
        whole = size * len(self.project)
        self.inner = self._attention(whole, n_heads, dropout)
        self.inner_norm = nn.LayerNorm(whole)
        self.block = ResidualBlock(whole, dropout)
        self.head = nn.Sequential(nn.Linear(whole, whole // 2), nn.ReLU(), nn.Linear(whole // 2, 3))

    def _attention(self, size: int, n_heads: int, dropout: float) -> nn.MultiheadAttention:
        return nn.MultiheadAttention(size, n_heads, dropout=dropout, batch_first=not self.over_batch)

    def forward(self, users: Mapping[str, Tensor], movies: Mapping[str, Tensor]) -> Tensor:
        """User and movie vectors by modality, each [B, F], to logits [B, 3]."""
        outputs = []
        for name in self.names:
            sides = {
                "user": self.project[f"{name}_user"](users[name]),
                "movie": self.project[f"{name}_movie"](movies[name]),
            }
            for side, other in (("user", "movie"), ("movie", "user")):
                key = f"{name}_{side}"
                query, context = sides[side].unsqueeze(1), sides[other].unsqueeze(1)
                found = self.cross[key](query, context, context, need_weights=False)[0]
                outputs.append(self.cross_norm[key](query + found))
        whole = torch.cat(outputs, dim=-1)  # [B, 1, D']
        whole = self.inner_norm(whole + self.inner(whole, whole, whole, need_weights=False)[0])
        logits: Tensor = self.head(self.block(whole)).squeeze(1)
        return logits


class TwoTowers(nn.Module):
    """User tower and movie tower, concatenated, then dense layers; tanh throughout. The source's baseline."""

    def __init__(self, width: int, tower: Sequence[int], top: Sequence[int], dropout: float) -> None:
        super().__init__()
        self.user, self.movie = _dense([width, *tower], dropout), _dense([width, *tower], dropout)
        self.top = nn.Sequential(_dense([2 * tower[-1], *top], dropout), nn.Linear(top[-1], 3))

    def forward(self, users: Tensor, movies: Tensor) -> Tensor:
        """User and movie vectors [B, F] to logits [B, 3]."""
        logits: Tensor = self.top(torch.cat([self.user(users), self.movie(movies)], dim=-1))
        return logits


def _dense(sizes: Sequence[int], dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), nn.Tanh(), nn.Dropout(dropout)]
    return nn.Sequential(*layers)
