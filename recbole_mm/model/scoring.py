"""What is left of a trained model when only scoring counts: plain arrays, without torch or RecBole.

A model that people whom it was not trained on can use answers them from ``scoring_parts()``; recbole_mm.recommend
keeps them in the run's directory and scores with numpy. Shapes: U users, I items (row 0 is padding), D width, H heads.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class ScoringParts:
    """score(i) = match(p, q_i) + b_i + sum_j z_j B_ji, over the items j that a person has watched.

    p is the person's trained vector, plus the pooled q_j where there are ``pooling`` weights: within each head h, the
    mean of the q_j weighted by pooling_jh. z are history weights, (rating / mean rating)^rating_power. Every part may
    be absent. The ``*_parts`` say what each modality of item i adds: with the modality silenced, that much is missing.
    """

    items: Array | None = None  # q [I, D]
    bias: Array | None = None  # b [I]
    users: Array | None = None  # trained vectors [U, D]
    pooling: Array | None = None  # [I, H], positive
    item_item: Array | None = None  # B [I, I]
    matching: Literal["dot", "cosine", "mlp"] = "dot"
    temperature: float = 1.0  # of cosine
    mlp: Mapping[str, Array] = field(default_factory=dict)  # of_user, user_bias, of_item, of_both, out
    rating_power: float = 0.0
    item_parts: Mapping[str, Array] = field(default_factory=dict)  # by modality, [I, D]
    bias_parts: Mapping[str, Array] = field(default_factory=dict)  # by modality, [I]
    item_item_parts: Mapping[str, Array] = field(default_factory=dict)  # by modality, [I, I]


@dataclass(frozen=True)
class NewItems:
    """Items that came after training: raw vectors by modality [n, F], and which are there, by modality [n]."""

    vectors: Mapping[str, Array]
    masks: Mapping[str, Array]

    def __len__(self) -> int:
        return len(next(iter(self.masks.values())))


def to_array(tensor: Any) -> Array:
    """A torch tensor as float32 numpy."""
    array: Array = tensor.detach().cpu().float().numpy()
    return array
