"""SimpleClassifier: a user tower and a movie tower of dense layers, concatenated; the baseline of the GL-score's paper.

Source: Mondal et al., IEEE Transactions on Consumer Electronics 2023: towers 512-256-128-64 with tanh, then 128-64-32-3
(the 128 is the two towers' outputs together). Differs: several modalities are concatenated, missing ones zero.
"""

from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field, NonNegativeFloat, PositiveInt
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_mm.config import Config, ModelConfig
from recbole_mm.glscore import UserSet
from recbole_mm.known_labels import Ids, KnownLabels
from recbole_mm.model.classification import Classifier
from recbole_mm.model.fusion import ModalityBank
from recbole_mm.model.gl_vectors import GLVectors, movie_modalities
from recbole_mm.model.losses import class_weights
from recbole_mm.model.published import TwoTowers


class SimpleClassifierConfig(ModelConfig):
    """Defaults live only in ``properties/model/SimpleClassifier.yaml``."""

    movie_modalities: list[str] | None  # those that represent a movie; all registered ones if empty
    user_set: UserSet
    gl_weighting: bool
    tower_sizes: list[PositiveInt] = Field(min_length=1)
    top_sizes: list[PositiveInt] = Field(min_length=1)
    dropout: float = Field(ge=0.0, lt=1.0)
    class_weight: NonNegativeFloat  # a class weighs (1 / its share)^class_weight in the loss


class SimpleClassifier(Classifier):
    """P(class | u, m) = softmax(top([user tower(U_emb); movie tower(M GL)])). Shapes: B pairs."""

    def __init__(self, config: Config, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.hp = hp = SimpleClassifierConfig.from_recbole(config)
        self.bank = ModalityBank(dataset, movie_modalities(config, hp.movie_modalities))
        self.genres = dataset.genres
        self.register_buffer("class_weights", class_weights(dataset.known.class_shares, hp.class_weight))
        self.network = TwoTowers(sum(self.bank.widths.values()), hp.tower_sizes, hp.top_sizes, hp.dropout)
        self.observe(dataset.known)

    def observe(self, known: KnownLabels) -> None:
        """Rest all further predictions on these labels."""
        if getattr(self, "known", None) is not known:
            super().observe(known)
            self.vectors = GLVectors(known, self.genres, self.bank, self.hp.user_set, weighted=self.hp.gl_weighting)

    def features_changed(self) -> None:
        """Compute the users' vectors from those now in the bank."""
        self.vectors.forget()

    def logits(self, users: Ids, items: Ids) -> Tensor:
        """Logits of the classes, [B, 3]."""
        mine, movies = self.vectors.of(users, items)
        found: Tensor = self.network(torch.cat(list(mine.values()), dim=1), torch.cat(list(movies.values()), dim=1))
        return found

    def calculate_loss(self, interaction: Interaction) -> Tensor:
        """Cross-entropy, classes weighted; a scalar."""
        users, items, classes = self.training_pairs(interaction)
        return F.cross_entropy(self.logits(users, items), classes, weight=self.class_weights)
