"""ItemClassMean: a pair has the class shares of the item's other known labels, smoothed by those of all labels."""

from typing import Any

import torch
from pydantic import PositiveFloat
from torch import Tensor

from recbole_mm.config import Config, ModelConfig
from recbole_mm.known_labels import Ids
from recbole_mm.model.classification import Classifier


class ItemClassMeanConfig(ModelConfig):
    """Defaults live only in ``properties/model/ItemClassMean.yaml``."""

    smoothing: PositiveFloat  # labels' worth of the overall shares


class ItemClassMean(Classifier):
    """P(class | u, m) = (labels of the class by the item + s share) / (labels by the item + s). Shapes: B pairs."""

    trains = False

    def __init__(self, config: Config, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.hp = ItemClassMeanConfig.from_recbole(config)
        self.observe(dataset.known)

    def logits(self, users: Ids, items: Ids) -> Tensor:
        """Log-shares, [B, 3]."""
        return torch.from_numpy(self.known.shares_of("item", users, items, self.hp.smoothing)).float().log()
