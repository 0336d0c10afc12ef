"""A pair has the class shares of its user's, or its item's, other known labels, smoothed by those of all labels."""

from typing import Any, ClassVar, Literal

import torch
from pydantic import PositiveFloat
from torch import Tensor

from recbole_mm.config import Config, ModelConfig
from recbole_mm.known_labels import Ids
from recbole_mm.model.classification import Classifier


class ClassMeanConfig(ModelConfig):
    """Defaults live only in ``properties/model/UserClassMean.yaml`` and ``ItemClassMean.yaml``."""

    smoothing: PositiveFloat  # labels' worth of the overall shares


class ClassMean(Classifier):
    """P(class | u, m) = (labels of the class by the side + s share) / (labels by the side + s). Shapes: B pairs."""

    trains = False
    side: ClassVar[Literal["user", "item"]]

    def __init__(self, config: Config, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.hp = ClassMeanConfig.from_recbole(config)
        self.observe(dataset.known)

    def logits(self, users: Ids, items: Ids) -> Tensor:
        """Log-shares, [B, 3]."""
        return torch.from_numpy(self.known.shares_of(self.side, users, items, self.hp.smoothing)).float().log()
