"""The cross-attention network and the dense network of the GL-score's paper, on two vectors a modality.

Source: Mondal et al., IEEE Transactions on Consumer Electronics 2023. Shapes: B pairs, F width of a modality, D width.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from recbole_mm.model.label_attention import ResidualBlock


class OneKeyAttention(nn.Module):
    """Multi-head attention to a sequence of one vector: the softmax is 1, queries and keys do not matter.

    What ``nn.MultiheadAttention`` computes there, at half of its cost, initialised as it is.
    """

    def __init__(self, size: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.value, self.out = nn.Linear(size, size), nn.Linear(size, size)
        nn.init.uniform_(self.value.weight, -((1.5 / size) ** 0.5), (1.5 / size) ** 0.5)
        for layer in (self.value, self.out):
            nn.init.zeros_(layer.bias)
        self.dropout = nn.Dropout(dropout)  # of a head's attention, all of which is on the one key

    def forward(self, query: Tensor, context: Tensor) -> Tensor:
        """Query and context [B, D] to [B, D]."""
        heads = self.value(context).view(len(context), self.n_heads, -1)
        kept = self.dropout(heads.new_ones(len(context), self.n_heads, 1))
        found: Tensor = self.out((heads * kept).flatten(1))
        return found


class BatchAttention(nn.Module):
    """Attention of each pair to all pairs of its batch: [B, 1, D] fed where [sequence, batch, D] is expected."""

    def __init__(self, size: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(size, n_heads, dropout=dropout)

    def forward(self, query: Tensor, context: Tensor) -> Tensor:
        """Query and context [B, D] to [B, D]."""
        context = context.unsqueeze(1)
        found: Tensor = self.attention(query.unsqueeze(1), context, context, need_weights=False)[0].squeeze(1)
        return found


class PublishedAttention(nn.Module):
    """Per modality user -> movie and movie -> user attention, concatenation, self-attention, feed-forward, head.

    With the axes put right, each sequence is one vector. With ``over_batch``, as the notebooks did, each pair attends
    to the other pairs of its batch, in evaluation too.
    """

    def __init__(self, widths: Mapping[str, int], size: int, n_heads: int, dropout: float, *, over_batch: bool) -> None:
        super().__init__()
        self.names = tuple(widths)
        pieces = {name: ("user", "movie") for name in self.names}
        self.project = nn.ModuleDict(
            {f"{n}_{s}": nn.Linear(widths[n], size) for n, sides in pieces.items() for s in sides}
        )
        attention = BatchAttention if over_batch else OneKeyAttention
        self.cross = nn.ModuleDict({key: attention(size, n_heads, dropout) for key in self.project})
        self.cross_norm = nn.ModuleDict({key: nn.LayerNorm(size) for key in self.project})
        whole = size * len(self.project)
        self.inner = attention(whole, n_heads, dropout)
        self.inner_norm = nn.LayerNorm(whole)
        self.block = ResidualBlock(whole, dropout)
        self.head = nn.Sequential(nn.Linear(whole, whole // 2), nn.ReLU(), nn.Linear(whole // 2, 3))

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
                outputs.append(self.cross_norm[key](sides[side] + self.cross[key](sides[side], sides[other])))
        whole = torch.cat(outputs, dim=-1)  # [B, D']
        whole = self.inner_norm(whole + self.inner(whole, whole))
        logits: Tensor = self.head(self.block(whole))
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
