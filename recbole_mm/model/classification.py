"""What every classifier of labels is to RecBole: probabilities of three classes, and a preference to rank by."""

from typing import Any

import numpy as np
import torch
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import AbstractRecommender
from recbole.utils import InputType, ModelType
from torch import Tensor

from recbole_mm.config import Config
from recbole_mm.errors import ConfigError, DataError
from recbole_mm.known_labels import CLASSES, Ids, KnownLabels
from recbole_mm.metrics import NAMES


class Classifier(AbstractRecommender):  # type: ignore[misc]
    """Base of the classifiers; a subclass answers :meth:`logits`, and may learn from :meth:`calculate_loss`.

    Shapes: B pairs, I items (row 0 is padding).
    """

    type = ModelType.CONTEXT
    input_type = InputType.POINTWISE
    classifies = True  # how the configuration, the data set and the trainer tell a classifier
    trains = True  # False: everything is computed from the known labels, one epoch does nothing

    @classmethod
    def configure(cls, config: Config) -> None:
        """Refuse RecBole's value metrics, which know two classes; and train once where there is nothing to train.

        Raises:
            ConfigError: a metric that three classes do not have.
        """
        if "full" not in config["eval_args"]["mode"].values():
            other = [name for name in config["metrics"] if name.lower() not in NAMES]
            if other:
                raise ConfigError(
                    f"metric '{other[0]}' is not defined for three classes; expected some of {', '.join(NAMES)}, or "
                    "eval_args.mode: full with ranking metrics"
                )
        if not cls.trains:
            config["epochs"] = 1

    def __init__(self, config: Config, dataset: Any) -> None:
        super().__init__()
        self.USER_ID, self.ITEM_ID, self.LABEL = dataset.uid_field, dataset.iid_field, dataset.label_field
        self.n_users, self.n_items = dataset.user_num, dataset.item_num
        self.device = config["device"]
        missing = [n for n, c in zip(CLASSES, np.bincount(dataset.known.cls, minlength=3), strict=True) if not c]
        if missing:
            raise DataError(f"no '{missing[0]}' among the known labels of the training part; expected every class")
        self.more: tuple[Ids, Ids, Ids] = getattr(dataset, "more_labels", (np.zeros(0, np.int64),) * 3)
        # a model without parameters still goes through RecBole's optimizer
        self.nothing = torch.nn.Parameter(torch.zeros(1), requires_grad=not self.trains)

    def observe(self, known: KnownLabels) -> None:
        """Rest all further predictions on these labels."""
        self.known = known

    def exchange(self, name: str, source: Tensor) -> None:
        """Give item i the features of item ``source[i]`` in one modality; source [I]. See :meth:`features_changed`."""
        self.bank.exchange(name, source)

    def features_changed(self) -> None:
        """Take up other vectors in the bank; what depends on them alone is computed anew by :meth:`observe`."""

    def logits(self, users: Ids, items: Ids) -> Tensor:
        """Log-probabilities of the classes up to a constant, [B, 3]."""
        raise NotImplementedError

    def calculate_loss(self, interaction: Interaction) -> Tensor:
        """Nothing to learn: a zero that RecBole can differentiate."""
        return self.nothing.sum() * 0.0

    # -- what RecBole asks ------------------------------------------------------------------------------------

    def training_pairs(self, interaction: Interaction) -> tuple[Ids, Ids, Tensor]:
        """Users [B], items [B] and classes [B] of a training batch.

        Where RecBole trains on likes alone (ranking), a proportional draw of the other known labels joins each batch.
        """
        users, items = self._ids(interaction)
        classes = (interaction[self.LABEL] + 1).long()
        n_more = len(self.more[0])
        if n_more:
            share = round(len(users) * n_more / max(1, len(self.known) - n_more))
            at = torch.randint(n_more, (share,)).numpy()
            users, items = np.concatenate([users, self.more[0][at]]), np.concatenate([items, self.more[1][at]])
            classes = torch.cat([classes, torch.from_numpy(self.more[2][at]).to(classes.device)])
        return users, items, classes

    def _ids(self, interaction: Interaction) -> tuple[Ids, Ids]:
        return interaction[self.USER_ID].cpu().numpy(), interaction[self.ITEM_ID].cpu().numpy()

    def predict_proba(self, interaction: Interaction) -> Tensor:
        """Probabilities of dislike, neutral and like, [B, 3]."""
        return self.logits(*self._ids(interaction)).softmax(-1)

    def predict(self, interaction: Interaction) -> Tensor:
        """Expected preference P(like) - P(dislike) of each pair, [B]."""
        return _preference(self.predict_proba(interaction))

    def full_sort_predict(self, interaction: Interaction) -> Tensor:
        """Expected preference of every item, [B, I]."""
        users = interaction[self.USER_ID].cpu().numpy()
        rows = [self.logits(np.full(self.n_items, user), np.arange(self.n_items)).softmax(-1) for user in users]
        return torch.stack([_preference(row) for row in rows])


def _preference(probabilities: Tensor) -> Tensor:
    return probabilities[:, 2] - probabilities[:, 0]
