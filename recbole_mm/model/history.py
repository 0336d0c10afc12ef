"""What each user has watched, ragged, and attention pooling over it.

Shapes: U users of a batch, N interactions in their histories, I items, D width, H heads.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor, nn


class Histories(NamedTuple):
    """Histories of a batch of users: flat item ids [N], and where each user's begin [U]."""

    items: Tensor
    offsets: Tensor

    @property
    def rows(self) -> Tensor:
        """The batch row of each entry, [N]."""
        ends = torch.cat([self.offsets[1:], self.offsets.new_tensor([len(self.items)])])
        return torch.repeat_interleave(torch.arange(len(self.offsets), device=self.offsets.device), ends - self.offsets)

    def drop(self, keep: Tensor) -> "Histories":
        """Only the entries where ``keep`` [N] is true."""
        kept_before = torch.cat([keep.new_zeros(1, dtype=torch.long), keep.long().cumsum(0)])
        return Histories(self.items[keep], kept_before[self.offsets])


def histories_of(item_lists: Sequence[Tensor]) -> Histories:
    """Histories given as one tensor of item ids a user."""
    lengths = torch.tensor([0, *(len(items) for items in item_lists)][:-1] if item_lists else [])
    return Histories(torch.cat(list(item_lists)), lengths.long().cumsum(0))


class UserHistory(nn.Module):
    """The training interactions of all users as a ragged table; buffers, not part of a checkpoint."""

    items: Tensor
    starts: Tensor

    def __init__(self, interactions: csr_matrix) -> None:
        super().__init__()
        matrix = interactions.tocsr()
        matrix.sum_duplicates()
        self.register_buffer("items", torch.from_numpy(matrix.indices.astype(np.int64)), persistent=False)
        self.register_buffer("starts", torch.from_numpy(matrix.indptr.astype(np.int64)), persistent=False)

    def of(self, users: Tensor) -> Histories:
        """Histories of user ids [U]."""
        start, length = self.starts[users], self.starts[users + 1] - self.starts[users]
        offsets = torch.cat([length.new_zeros(1), length.cumsum(0)[:-1]])
        within = torch.arange(int(length.sum()), device=users.device) - torch.repeat_interleave(offsets, length)
        return Histories(self.items[torch.repeat_interleave(start, length) + within], offsets)


class AttentionPooling(nn.Module):
    """Mean of a history's item vectors weighted by attention: softmax_j(q_h . tanh(W v_j)) within each head h.

    The weight of an item depends on the item alone, so that one pass over the item table serves all users.
    An empty history pools to zero. Source: Lin et al., "A structured self-attentive sentence embedding", ICLR 2017.
    """

    def __init__(self, size: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.hidden = nn.Linear(size, size)
        self.query = nn.Linear(size, n_heads, bias=False)

    def weights(self, item_vectors: Tensor) -> Tensor:
        """Item vectors [I, D] to attention weights before they are normalised over a history, [I, H]."""
        # tanh bounds the logit, so that exp needs no maximum taken off per user
        return torch.exp(3.0 * torch.tanh(self.query(torch.tanh(self.hidden(item_vectors)))))

    def forward(self, item_vectors: Tensor, histories: Histories) -> Tensor:
        """Item vectors [I, D] and histories of U users to user vectors [U, D]."""
        n_items, size = item_vectors.shape
        weight = self.weights(item_vectors)  # [I, H]
        weighted = (item_vectors.view(n_items, self.n_heads, -1) * weight.unsqueeze(-1)).view(n_items, size)
        table = torch.cat([weighted, weight], dim=1)
        summed = nn.functional.embedding_bag(histories.items, table, histories.offsets, mode="sum")
        top, bottom = torch.split(summed, [size, self.n_heads], dim=1)
        pooled = top.view(-1, self.n_heads, size // self.n_heads) / bottom.clamp(min=1e-9).unsqueeze(-1)
        result: Tensor = pooled.reshape(-1, size)
        return result
