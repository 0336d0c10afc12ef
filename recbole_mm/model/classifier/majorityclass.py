"""MajorityClass: every pair has the known labels' class shares; the likeliest class is the majority's."""

from typing import Any

import torch
from torch import Tensor

from recbole_mm.config import Config, ModelConfig
from recbole_mm.known_labels import Ids
from recbole_mm.model.classification import Classifier


class MajorityClassConfig(ModelConfig):
    """No hyper-parameters."""


class MajorityClass(Classifier):
    """P(class | u, m) = share of the class among the known labels. Shapes: B pairs."""

    trains = False

    def __init__(self, config: Config, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.observe(dataset.known)

    def logits(self, users: Ids, items: Ids) -> Tensor:
        """Log-shares, the same for all pairs, [B, 3]."""
        shares = torch.from_numpy(self.known.class_shares).float()
        return shares.log().expand(len(users), 3)
