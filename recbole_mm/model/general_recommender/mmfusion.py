"""MMFusion: an item is its fused modalities, a user is an embedding or what they watched, and the two are matched.

Source: this package; the parts name theirs in :mod:`recbole_mm.model.fusion`, ``history``, ``matching``, ``losses``.
ID dropout for cold items follows Volkovs et al., "DropoutNet", NeurIPS 2017.
"""

from typing import Any, Literal

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import GeneralRecommender
from recbole.utils import InputType
from torch import Tensor, nn

from recbole_mm.config import Config, ModelConfig
from recbole_mm.errors import FeatureError
from recbole_mm.model import losses
from recbole_mm.model.closed_form import ClosedForm, history_weights
from recbole_mm.model.fusion import Fusion, FusionName, ModalityBank
from recbole_mm.model.history import AttentionPooling, Histories, UserHistory, histories_of
from recbole_mm.model.item_item import ColdSetting, WarmSetting
from recbole_mm.model.matching import Matching, MatchingName
from recbole_mm.model.scoring import Array, NewItems, ScoringParts, to_array

Probability = Field(ge=0.0, lt=1.0)


class MMFusionConfig(ModelConfig):
    """Defaults live only in ``properties/model/MMFusion.yaml``."""

    fusion: FusionName
    engine: Literal["collaborative", "content", "hybrid"]
    matching: MatchingName
    loss: Literal["bpr", "triplet", "cross_entropy", "bce"]
    embedding_size: PositiveInt  # D, of users, items and fused modalities
    n_heads: PositiveInt  # of attention fusion and of history pooling; divides embedding_size
    mlp_hidden_size: PositiveInt
    temperature: PositiveFloat  # of cosine matching
    margin: NonNegativeFloat  # of the triplet loss
    sampled_items: NonNegativeInt  # cross_entropy over that many sampled items; 0: over all
    id_dropout: float = Probability  # share of items whose ID part is absent in a training step
    history_dropout: float = Probability  # share of a history that is hidden in a training step
    dropout: float = Probability  # of projected modalities
    reg_weight: NonNegativeFloat  # L2 on the user and item vectors of the batch
    item_item_weight: NonNegativeFloat  # of the closed-form part in the score; 0: without it
    rating_power: NonNegativeFloat  # history weights (rating / mean rating)^power; 0: all alike
    warm_reg: PositiveFloat  # the next seven: see model/item_item.py
    warm_reg_power: NonNegativeFloat
    warm_user_power: NonNegativeFloat
    warm_similarity: NonNegativeFloat
    warm_content_weight: NonNegativeFloat
    warm_popularity_power: NonNegativeFloat
    warm_content: dict[str, NonNegativeFloat]  # weight of each modality in K; default: of those not named
    cold_reg: PositiveFloat  # the next four: see model/item_item.py
    cold_smoothing: float = Field(ge=0.0, le=1.0)
    cold_rank: NonNegativeInt
    cold_kernel: dict[str, NonNegativeFloat]  # weight of each modality's distance; default: of those not named

    @model_validator(mode="after")
    def _heads(self) -> "MMFusionConfig":
        if self.embedding_size % self.n_heads:
            raise ValueError(f"embedding_size={self.embedding_size} is not a multiple of n_heads={self.n_heads}")
        return self


class MMFusion(GeneralRecommender):  # type: ignore[misc]
    """score(u, i) = match(p_u, q_i) + b_i.

    q_i = fuse(features of i) + id_i, where id_i is an ID embedding, absent for items without training interactions;
    p_u by engine: ``collaborative`` e_u; ``content`` pool(q_j, j watched by u); ``hybrid`` e_u + pool(...).
    The content engine has no ID part: its items and its users may both be new.

    Shapes: B examples, U different users, I items (row 0 is padding), D embedding_size.
    """

    input_type = InputType.POINTWISE
    _INPUT = {  # noqa: RUF012 - what each loss is fed by RecBole
        "bpr": InputType.PAIRWISE,
        "triplet": InputType.PAIRWISE,
        "bce": InputType.POINTWISE,
        "cross_entropy": InputType.POINTWISE,
    }

    @classmethod
    def configure(cls, config: Config) -> None:
        """The loss decides how RecBole samples negatives; softmax needs none."""
        loss = MMFusionConfig.from_recbole(config).loss
        config["MODEL_INPUT_TYPE"] = cls._INPUT[loss]
        if loss == "cross_entropy":
            config["train_neg_sample_args"] = {
                "distribution": "none", "sample_num": "none", "alpha": "none", "dynamic": False, "candidate_num": 0,
            }  # fmt: skip

    def __init__(self, config: Config, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.hp = hp = MMFusionConfig.from_recbole(config)
        self.LABEL = config["LABEL_FIELD"]
        names = list(config["modalities"])
        if not names:
            raise FeatureError(f"MMFusion needs a modality, '{config['dataset']}' has none; see 'features add'")
        interactions = dataset.inter_matrix(form="csr")
        self.bank = ModalityBank(dataset, names)
        self.history = UserHistory(interactions)
        warm = torch.from_numpy(interactions.getnnz(axis=0) > 0)
        self.register_buffer("warm", warm, persistent=False)

        size = hp.embedding_size
        self.fuse = Fusion(self.bank.widths, size, how=hp.fusion, n_heads=hp.n_heads, dropout=hp.dropout)
        self.match = Matching(size, how=hp.matching, temperature=hp.temperature, hidden_size=hp.mlp_hidden_size)
        self.content_bias = nn.Linear(size, 1)
        if hp.engine != "content":
            self.users = nn.Embedding(self.n_users, size)
            self.item_ids = nn.Embedding(self.n_items, size)
            self.item_bias = nn.Parameter(torch.zeros(self.n_items))
            nn.init.normal_(self.users.weight, std=size**-0.5)
            nn.init.normal_(self.item_ids.weight, std=0.1 * size**-0.5)
        if hp.engine != "collaborative":
            self.pool = AttentionPooling(size, hp.n_heads)
        self.closed_form = self._closed_form(config, dataset) if hp.item_item_weight > 0 else None
        self._cached: tuple[Tensor, Tensor] | None = None

    def _closed_form(self, config: Config, dataset: Any) -> ClosedForm:
        hp = self.hp
        return ClosedForm(
            self.bank,
            history_weights(dataset, config["RATING_FIELD"], hp.rating_power),
            warm=WarmSetting(
                reg=hp.warm_reg,
                reg_power=hp.warm_reg_power,
                user_power=hp.warm_user_power,
                similarity=hp.warm_similarity,
                content=hp.warm_content_weight,
                popularity_power=hp.warm_popularity_power,
            ),
            warm_content=hp.warm_content,
            cold=ColdSetting(hp.cold_reg, hp.cold_smoothing, hp.cold_rank),
            cold_kernel=hp.cold_kernel,
        )

    # -- items and users --------------------------------------------------------------------------------------

    def item_table(self) -> tuple[Tensor, Tensor]:
        """Vectors [I, D] and biases [I] of all items; in training some items' ID parts are absent."""
        fused = self.fuse(*self.bank.extended(None))
        bias = self.content_bias(fused).squeeze(-1)
        if self.hp.engine == "content":
            return fused, bias
        keep = self.warm.float()
        if self.training:
            keep = keep * (torch.rand_like(keep) >= self.hp.id_dropout)
        return fused + self.item_ids.weight * keep.unsqueeze(1), bias + self.item_bias * keep

    def user_vectors(self, users: Tensor, items: Tensor, histories: Histories) -> Tensor:
        """User ids [U], item vectors [I, D] and the users' histories to user vectors [U, D]."""
        parts: list[Tensor] = []
        if self.hp.engine != "content":
            parts.append(self.users(users))
        if self.hp.engine != "collaborative":
            parts.append(self.pool(items, histories))
        return sum(parts[1:], start=parts[0])

    # -- training ---------------------------------------------------------------------------------------------

    def calculate_loss(self, interaction: Interaction) -> Tensor:
        """The chosen loss plus L2 on the vectors used, a scalar."""
        users, row = torch.unique(interaction[self.USER_ID], return_inverse=True)
        positive = interaction[self.ITEM_ID]
        items, bias = self.item_table()
        histories = self.history.of(users)
        weight = None
        if self.hp.engine != "collaborative":
            histories, seen = self._hide(histories, row, positive)
            weight = (~seen).float()  # to predict what is in the input teaches nothing
        vectors = self.user_vectors(users, items, histories)
        if self.hp.loss == "cross_entropy":
            loss = self._softmax_loss(vectors, row, positive, items, bias, weight)
        else:
            positive_score = self.match.pairs(vectors[row], items[positive]) + bias[positive]
            if self.hp.loss == "bce":
                loss = losses.bce(positive_score, interaction[self.LABEL], weight)
            else:
                negative = interaction[self.NEG_ITEM_ID]
                negative_score = self.match.pairs(vectors[row], items[negative]) + bias[negative]
                if self.hp.loss == "bpr":
                    loss = losses.bpr(positive_score, negative_score, weight)
                else:
                    loss = losses.triplet(positive_score, negative_score, self.hp.margin, weight)
        l2 = vectors[row].pow(2).sum(-1).mean() + items[positive].pow(2).sum(-1).mean()
        return loss + self.hp.reg_weight * l2

    def _hide(self, histories: Histories, row: Tensor, positive: Tensor) -> tuple[Histories, Tensor]:
        """Hide a random part of the histories; and for each example, whether its item is still in it, [B]."""
        keep = torch.rand(len(histories.items), device=row.device) >= self.hp.history_dropout
        # users and each one's items are in ascending order, and so are the pairs
        pairs, wanted = histories.rows * self.n_items + histories.items, row * self.n_items + positive
        at = torch.searchsorted(pairs, wanted).clamp(max=len(pairs) - 1)
        return histories.drop(keep), keep[at] & (pairs[at] == wanted)

    def _softmax_loss(
        self, vectors: Tensor, row: Tensor, positive: Tensor, items: Tensor, bias: Tensor, weight: Tensor | None
    ) -> Tensor:
        if self.hp.sampled_items == 0 or self.hp.sampled_items >= self.n_items - 1:
            logits = self.match.all(vectors, items) + bias
            logits[:, 0] = float("-inf")  # padding is no item
            return losses.cross_entropy(logits, row, positive, weight)
        sampled = torch.randint(1, self.n_items, (self.hp.sampled_items,), device=row.device)
        against = self.match.all(vectors, items[sampled]) + bias[sampled]
        own = self.match.pairs(vectors[row], items[positive]) + bias[positive]
        others = against[row].masked_fill(sampled == positive.unsqueeze(1), float("-inf"))
        logits = torch.cat([own.unsqueeze(1), others], dim=1)
        index = torch.arange(len(row), device=row.device)
        return losses.cross_entropy(logits, index, torch.zeros_like(index), weight)

    # -- scoring ----------------------------------------------------------------------------------------------

    def train(self, mode: bool = True) -> "MMFusion":
        """Any change of mode, and so any training step or evaluation, drops the cached item table."""
        self._cached = None
        super().train(mode)
        return self

    def _table(self) -> tuple[Tensor, Tensor]:
        if self.training:
            return self.item_table()
        if self._cached is None:
            self._cached = self.item_table()
        return self._cached

    def predict(self, interaction: Interaction) -> Tensor:
        """Score of each pair, [B]."""
        users, row = torch.unique(interaction[self.USER_ID], return_inverse=True)
        items, bias = self._table()
        vectors = self.user_vectors(users, items, self.history.of(users))
        item = interaction[self.ITEM_ID]
        scores = self.match.pairs(vectors[row], items[item]) + bias[item]
        if self.closed_form is not None:
            scores = scores + self.hp.item_item_weight * self.closed_form(users)[row, item]
        return scores

    def full_sort_predict(self, interaction: Interaction) -> Tensor:
        """Score of every item, [B, I]."""
        users = interaction[self.USER_ID]
        items, bias = self._table()
        scores = self.match.all(self.user_vectors(users, items, self.history.of(users)), items) + bias
        if self.closed_form is not None:
            scores = scores + self.hp.item_item_weight * self.closed_form(users)
        return scores

    def score_histories(self, watched: list[Tensor]) -> Tensor:
        """Scores [U, I] for people who were never trained on, each given as the item ids that they watched.

        Raises:
            FeatureError: the engine is collaborative, which knows users by their ID only.
        """
        if self.hp.engine == "collaborative":
            raise FeatureError("engine 'collaborative' cannot score a new user; train with engine content or hybrid")
        items, bias = self._table()
        scores = self.match.all(self.pool(items, histories_of(watched)), items) + bias
        if self.closed_form is not None:
            scores = scores + self.hp.item_item_weight * self.closed_form.of_histories(watched)
        return scores

    @torch.no_grad()
    def scoring_parts(self, new: NewItems | None = None) -> ScoringParts:
        """What scores without this class; new items come last, and are scored from their modalities alone."""
        vectors, mask = self.bank.extended(new)
        items, parts = self.fuse(vectors, mask), self.fuse.parts(vectors, mask)
        bias = self.content_bias(items).squeeze(-1)
        if self.hp.engine != "content":
            keep = self.warm.float()
            items[: self.n_items] += self.item_ids.weight * keep.unsqueeze(1)
            bias[: self.n_items] += self.item_bias * keep
        weights, weight_parts = self._item_item(vectors)
        return ScoringParts(
            items=to_array(items),
            bias=to_array(bias),
            users=None if self.hp.engine == "content" else to_array(self.users.weight),
            pooling=None if self.hp.engine == "collaborative" else to_array(self.pool.weights(items)),
            item_item=weights,
            matching=self.hp.matching,
            temperature=self.hp.temperature,
            mlp=self.match.mlp_arrays(),
            rating_power=self.hp.rating_power,
            item_parts={name: to_array(part) for name, part in parts.items()},
            bias_parts={name: to_array(part @ self.content_bias.weight[0]) for name, part in parts.items()},
            item_item_parts=weight_parts,
        )

    def _item_item(self, vectors: dict[str, Tensor]) -> tuple[Array | None, dict[str, Array]]:
        """The closed-form part's weights and what each modality adds to them, with columns for new items."""
        if self.closed_form is None:
            return None, {}
        scale = self.hp.item_item_weight
        whole, parts = self.closed_form.by_parts(vectors)
        return scale * whole, {name: scale * part for name, part in parts.items()}
