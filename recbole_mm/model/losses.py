"""Losses of ranking models; every one takes scores and answers a scalar."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def weighted_mean(values: Tensor, weight: Tensor | None) -> Tensor:
    """Mean of ``values`` [B], those with weight 0 left out; 0 if none is left."""
    if weight is None:
        return values.mean()
    return (values * weight).sum() / weight.sum().clamp(min=1.0)


def bpr(positive: Tensor, negative: Tensor, weight: Tensor | None = None) -> Tensor:
    """-log sigmoid(positive - negative), both [B]. Source: Rendle et al., UAI 2009."""
    return weighted_mean(F.softplus(negative - positive), weight)


def triplet(positive: Tensor, negative: Tensor, margin: float, weight: Tensor | None = None) -> Tensor:
    """max(0, margin - positive + negative), both [B] similarities. Source: Schroff et al., CVPR 2015."""
    return weighted_mean(F.relu(margin - positive + negative), weight)


def cross_entropy(logits: Tensor, row: Tensor, column: Tensor, weight: Tensor | None = None) -> Tensor:
    """Softmax over the columns of ``logits`` [R, C]; example b is entry (row[b], column[b]).

    Several examples may share a row: its normaliser is computed once, which is what makes a softmax over all items
    cheap when a batch holds several interactions of a user.
    """
    normaliser = torch.logsumexp(logits, dim=1)
    return weighted_mean(normaliser[row] - logits[row, column], weight)


def bce(score: Tensor, label: Tensor, weight: Tensor | None = None) -> Tensor:
    """Binary cross-entropy of ``score`` [B] against ``label`` [B] in {0, 1}."""
    return weighted_mean(F.binary_cross_entropy_with_logits(score, label, reduction="none"), weight)


def class_weights(shares: Any, power: float) -> Tensor:
    """(1 / share)^power of each class [C], scaled so that the mean weight of an example is 1."""
    share = torch.as_tensor(shares, dtype=torch.float32)
    weight = share.clamp(min=1e-6) ** -power
    return weight / (weight * share).sum()
