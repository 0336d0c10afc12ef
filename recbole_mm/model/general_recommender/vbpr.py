"""VBPR: matrix factorisation with a content channel.

Source: He & McAuley, "VBPR", AAAI 2016, https://arxiv.org/abs/1510.01784.
Differs: user and global biases are omitted (they cancel in the BPR difference); the features are all registered
modalities side by side, standardised, not an image alone; L2 covers the batch's factors only, not E, w or b.
"""

from typing import Any

import torch
from pydantic import NonNegativeFloat, PositiveInt
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import GeneralRecommender
from recbole.utils import InputType
from torch import Tensor, nn

from recbole_mm.config import Config, ModelConfig
from recbole_mm.model import losses
from recbole_mm.model.fusion import ModalityBank
from recbole_mm.model.scoring import NewItems, ScoringParts, to_array


class VBPRConfig(ModelConfig):
    """Defaults live only in ``properties/model/VBPR.yaml``."""

    embedding_size: PositiveInt  # K, collaborative factors
    content_embedding_size: PositiveInt  # D, projected content factors
    reg_weight: NonNegativeFloat  # L2 on the batch's factors


class VBPR(GeneralRecommender):  # type: ignore[misc]
    """score(u, i) = b_i + <p_u, q_i> + <t_u, E f_i> + <w, f_i>.

    Shapes: B batch, I items (row 0 is padding), F width of all features side by side.
    """

    input_type = InputType.PAIRWISE

    def __init__(self, config: Config, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.hp = VBPRConfig.from_recbole(config)
        self.bank = ModalityBank(dataset, list(config["modalities"]))
        k, d, f = self.hp.embedding_size, self.hp.content_embedding_size, sum(self.bank.widths.values())
        self.users = nn.Embedding(self.n_users, k + d)
        self.items = nn.Embedding(self.n_items, k)
        self.item_bias = nn.Parameter(torch.zeros(self.n_items))
        self.content_factors = nn.Linear(f, d, bias=False)
        self.content_bias = nn.Linear(f, 1, bias=False)
        for table in (self.users, self.items):
            nn.init.xavier_normal_(table.weight)

    def item_factors(self, item: Tensor) -> tuple[Tensor, Tensor]:
        """Item ids [B] to factors [B, K + D] and bias [B]."""
        features = torch.cat([self.bank.vectors(name)[item] for name in self.bank.names], dim=1)
        factors = torch.cat([self.items(item), self.content_factors(features)], dim=-1)
        return factors, self.item_bias[item] + self.content_bias(features).squeeze(-1)

    def calculate_loss(self, interaction: Interaction) -> Tensor:
        """BPR loss plus L2, a scalar; each item of the batch is projected once, however often it occurs."""
        user = self.users(interaction[self.USER_ID])
        both = torch.cat([interaction[self.ITEM_ID], interaction[self.NEG_ITEM_ID]])
        items, row = torch.unique(both, return_inverse=True)
        factors, bias = self.item_factors(items)
        positive, negative = factors[row].chunk(2)
        positive_bias, negative_bias = bias[row].chunk(2)
        rank = losses.bpr((user * positive).sum(-1) + positive_bias, (user * negative).sum(-1) + negative_bias)
        l2 = sum(factor.pow(2).sum(-1).mean() for factor in (user, positive, negative))
        return rank + self.hp.reg_weight * l2

    def predict(self, interaction: Interaction) -> Tensor:
        """Score of each pair, [B]."""
        factors, bias = self.item_factors(interaction[self.ITEM_ID])
        scores: Tensor = (self.users(interaction[self.USER_ID]) * factors).sum(-1) + bias
        return scores

    def full_sort_predict(self, interaction: Interaction) -> Tensor:
        """Score of every item, [B, I]."""
        factors, bias = self.item_factors(torch.arange(self.n_items, device=self.item_bias.device))
        scores: Tensor = self.users(interaction[self.USER_ID]) @ factors.T + bias
        return scores

    @torch.no_grad()
    def scoring_parts(self, new: NewItems | None = None) -> ScoringParts:
        """What scores without this class; new items come last, and have content factors only."""
        vectors, _ = self.bank.extended(new)
        n_all, ids = len(next(iter(vectors.values()))), self.items.weight
        blank = ids.new_zeros(n_all, self.hp.embedding_size)
        factors, bias = torch.zeros_like(blank), ids.new_zeros(n_all)
        factors[: self.n_items], bias[: self.n_items] = ids, self.item_bias
        factors = torch.cat([factors, ids.new_zeros(n_all, self.hp.content_embedding_size)], dim=1)
        item_parts, bias_parts, start = {}, {}, 0
        for name, part in vectors.items():
            columns = slice(start, start + part.shape[1])
            start = columns.stop
            item_parts[name] = torch.cat([blank, part @ self.content_factors.weight[:, columns].T], dim=1)
            bias_parts[name] = part @ self.content_bias.weight[0, columns]
        return ScoringParts(
            items=to_array(sum(item_parts.values(), start=factors)),
            bias=to_array(sum(bias_parts.values(), start=bias)),
            users=to_array(self.users.weight),
            item_parts={name: to_array(part) for name, part in item_parts.items()},
            bias_parts={name: to_array(part) for name, part in bias_parts.items()},
        )
