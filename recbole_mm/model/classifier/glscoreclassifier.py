"""GLScoreClassifier: like, neutral or dislike, by cross attention over real sequences of labels, weighted by GL-score.

Source: Mondal et al., "Genre Effect Toward Developing a Multi-Modal Movie Recommendation System in Indian Setting",
IEEE Transactions on Consumer Electronics 2023; its network is ``architecture: published``.

Differs, with ``architecture: sequence``: the user side is the sequence of rated movies with their labels, not their
mean; the movie side its modality vectors and the labels that others gave it; a pair's own label is in none of its
inputs; and a closed form (:mod:`recbole_mm.model.label_process`) and class shares stand beside the attention.
"""

from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator
from recbole.data.interaction import Interaction
from torch import Tensor, nn

from recbole_mm.config import Config, ModelConfig
from recbole_mm.glscore import USER_SETS, UserSet
from recbole_mm.known_labels import Ids, KnownLabels
from recbole_mm.model.classification import Classifier
from recbole_mm.model.fusion import ModalityBank
from recbole_mm.model.gl_vectors import GLVectors, movie_modalities
from recbole_mm.model.label_attention import ResidualBlock, SequenceAttention, TokenAttention
from recbole_mm.model.label_features import SCORE_COLUMNS, LabelFeatures, PairFeatures, number_of_columns
from recbole_mm.model.label_process import LabelProcess
from recbole_mm.model.losses import class_weights
from recbole_mm.model.published import PublishedAttention
from recbole_mm.model.segments import SegmentBank, SegmentTokens

_HIDDEN = 0.1  # of the training pairs where new movies are to be predicted
_KEPT_BATCHES = 16  # of evaluation; they come again every epoch


class GLScoreClassifierConfig(ModelConfig):
    """Defaults live only in ``properties/model/GLScoreClassifier.yaml``."""

    architecture: Literal["sequence", "published", "published_batch_attention"]
    movie_modalities: list[str] | None  # those that represent a movie; all registered ones if empty
    user_set: UserSet  # whose labels make the user
    gl_weighting: bool
    gl_scale: float = Field(gt=0.0, allow_inf_nan=False)  # of the published architectures: the score counts so much
    gl_undefined: float = Field(ge=0.0, le=1.0)  # of the published architectures: the score where l + n + d = 0
    closed_form: bool  # of the sequence architecture
    attention: bool  # of the sequence architecture
    hide_movie: float | None = Field(ge=0.0, lt=1.0)  # share of the training pairs whose movies' labels are hidden
    embedding_size: PositiveInt  # D
    n_heads: PositiveInt
    hidden_size: PositiveInt  # of the dense heads
    members: PositiveInt  # dense heads whose probabilities are averaged
    max_sequence: PositiveInt
    max_segments: NonNegativeInt  # of a movie in each modality; 0: its one vector alone
    dropout: float = Field(ge=0.0, lt=1.0)
    class_weight: NonNegativeFloat  # a class weighs (1 / its share)^class_weight in the loss

    @model_validator(mode="after")
    def _heads(self) -> "GLScoreClassifierConfig":
        if self.embedding_size % self.n_heads:
            raise ValueError(f"embedding_size={self.embedding_size} is not a multiple of n_heads={self.n_heads}")
        return self


class GLScoreClassifier(Classifier):
    """P(class | u, m) = mean over heads of softmax(head(attention, numbers)).

    Shapes: B pairs, I items (row 0 is padding), E entries of sequences, D embedding_size, N numbers of a pair.
    """

    def __init__(self, config: Config, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.hp = hp = GLScoreClassifierConfig.from_recbole(config)
        self.bank = ModalityBank(dataset, movie_modalities(config, hp.movie_modalities))
        self.segments = SegmentBank(dataset, self.bank, hp.max_segments if hp.architecture == "sequence" else 0)
        self.genres, self.has_genres = dataset.genres, dataset.has_genres
        self.register_buffer("class_weights", class_weights(dataset.known.class_shares, hp.class_weight))
        share = (_HIDDEN if config["protocol"] == "new_movie" else 0.0) if hp.hide_movie is None else hp.hide_movie
        self.hide_movie = share if hp.architecture == "sequence" else 0.0
        self._training = self._ids(dataset.inter_feat)
        if hp.architecture == "sequence":
            self._build_sequence()
        else:
            self.network = PublishedAttention(
                self.bank.widths, hp.embedding_size, hp.n_heads, hp.dropout,
                over_batch=hp.architecture == "published_batch_attention",
            )  # fmt: skip
        self.observe(dataset.known, fit=True)

    def _build_sequence(self) -> None:
        hp, size = self.hp, self.hp.embedding_size
        columns = number_of_columns(has_genres=self.has_genres, process=hp.closed_form)
        self.process = LabelProcess(self.bank) if hp.closed_form else None
        self.register_buffer("centre", torch.zeros(columns))
        self.register_buffer("spread", torch.ones(columns))
        if hp.attention:
            self._build_attention(columns)
        whole = columns + 4 * size * hp.attention
        self.heads = nn.ModuleList(self._head(whole) for _ in range(hp.members))

    def _build_attention(self, columns: int) -> None:
        hp, size, widths = self.hp, self.hp.embedding_size, self.bank.widths
        self.project = nn.ModuleDict({name: nn.Linear(width, size) for name, width in widths.items()})
        self.kind = nn.Parameter(torch.randn(len(widths), size) * size**-0.5)
        self.label_vectors = nn.Embedding(3, size)
        self.label_values = nn.Embedding(3, size)
        self.of_numbers = nn.Linear(columns, size)
        self.rater_vectors = nn.Linear(3, size)
        self.user_side = SequenceAttention(size, hp.n_heads, hp.dropout)
        self.movie_side = SequenceAttention(size, hp.n_heads, hp.dropout)
        self.modality_side = TokenAttention(size, hp.n_heads, hp.dropout)
        self.segment_tokens = SegmentTokens(self.bank, self.segments, size) if self.segments.vectors else None
        self.together = TokenAttention(size, hp.n_heads, hp.dropout)
        self.block = ResidualBlock(size, hp.dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(size) for _ in range(2))

    def _head(self, width: int) -> nn.Sequential:
        hidden, drop = self.hp.hidden_size, self.hp.dropout
        return nn.Sequential(
            nn.Dropout(drop), nn.Linear(width, hidden), nn.GELU(), nn.Dropout(drop),
            nn.Linear(hidden, hidden), nn.GELU(), nn.Dropout(drop), nn.Linear(hidden, 3),
        )  # fmt: skip

    # -- what is known ----------------------------------------------------------------------------------------

    def observe(self, known: KnownLabels, *, fit: bool = False) -> None:
        """Rest all further predictions on these labels; with ``fit``, choose the closed form's weights by them."""
        if getattr(self, "known", None) is known:
            return
        super().observe(known)
        self._stored: tuple[Ids, PairFeatures] | None = None
        self._batches: dict[bytes, PairFeatures] = {}
        self._raters = torch.from_numpy(known.user_shares().astype(np.float32))  # [U, 3]
        if self.hp.architecture != "sequence":
            self.vectors = GLVectors(
                known, self.genres, self.bank, self.hp.user_set, weighted=self.hp.gl_weighting,
                scale=self.hp.gl_scale, undefined=self.hp.gl_undefined,
            )  # fmt: skip
            return
        if self.process is not None:
            self.process.observe(known, fit=fit)
        self.features = LabelFeatures(
            known, self.genres, has_genres=self.has_genres, process=self.process, limit=self.hp.max_sequence,
            chosen=USER_SETS[self.hp.user_set], weighted=self.hp.gl_weighting,
        )  # fmt: skip
        if fit:
            numbers = self._features(*self._training)[0].numbers
            self.centre.copy_(numbers.mean(0))
            self.spread.copy_(numbers.std(0) + 1e-3)
            if not self.hp.gl_weighting:
                self.spread[:SCORE_COLUMNS] = 1.0

    def exchange(self, name: str, source: Tensor) -> None:
        """As in the base, the segments too."""
        super().exchange(name, source)
        self.segments.exchange(name, source)

    def features_changed(self) -> None:
        """Take up other vectors in the bank, the closed form's weights as they were."""
        if self.hp.architecture != "sequence":
            self.vectors.forget()
        elif self.process is not None:
            self.process.take_features(self.bank)

    def _features(self, users: Ids, items: Ids) -> tuple[PairFeatures, Ids]:
        """Features that hold these pairs, and the pairs' rows in them; those of a batch that comes again are kept."""
        if self._stored is None:
            pairs = np.unique(self._training[0] * self.n_items + self._training[1])
            self._stored = pairs, self.features.of(pairs // self.n_items, pairs % self.n_items)
        pairs, found = self._stored
        wanted = users * self.n_items + items
        rows = np.minimum(np.searchsorted(pairs, wanted), len(pairs) - 1)
        if (pairs[rows] == wanted).all():
            return found, rows
        key = wanted.tobytes()
        if key not in self._batches:
            if len(self._batches) >= _KEPT_BATCHES:
                self._batches.clear()
            self._batches[key] = self.features.of(users, items)
        return self._batches[key], np.arange(len(users))

    # -- scoring ----------------------------------------------------------------------------------------------

    def member_logits(self, users: Ids, items: Ids, hidden: Tensor | None = None) -> Tensor:
        """Logits of each head, [members, B, 3]; ``hidden`` [B] are pairs whose movies' labels are taken for unknown."""
        if self.hp.architecture != "sequence":
            whole: Tensor = self.network(*self.vectors.of(users, items))
            return whole.unsqueeze(0)
        features, rows = self._features(users, items)
        numbers = features.numbers[torch.from_numpy(rows)]
        if hidden is not None:
            numbers = torch.where(hidden[:, None], self.features.without_movie(numbers), numbers)
        seen = numbers = ((numbers - self.centre) / self.spread).clamp(-5, 5)
        if self.hp.attention:
            attended = self._attend(features, rows, torch.from_numpy(items), numbers, hidden)
            seen = torch.cat([numbers, attended], dim=1)
        return torch.stack([head(seen) for head in self.heads])

    def _attend(
        self, features: PairFeatures, rows: Ids, items: Tensor, numbers: Tensor, hidden: Tensor | None
    ) -> Tensor:
        """The user's labels, the movie's labels, its modalities, and all of them together, [B, 4 D]."""
        tokens, movie = self._movies()
        known_item, known_class = torch.from_numpy(self.known.item), torch.from_numpy(self.known.cls)
        of_user = self.of_numbers(numbers)
        pair, at, weight = features.user_side.of(rows)
        # a rated movie with its label is one of 3 I tokens
        keys = (movie[:, None, :] + self.label_vectors.weight).flatten(0, 1)
        values = (movie[:, None, :] + self.label_values.weight).flatten(0, 1)
        entry = known_item[at] * 3 + known_class[at]
        liked, _ = self.user_side(movie[items] + of_user, keys, values, pair, entry, weight)
        pair, at, weight = features.movie_side.of(rows)
        if hidden is not None:
            shown = ~hidden[pair]
            pair, at, weight = pair[shown], at[shown], weight[shown]
        raters = self.rater_vectors(self._raters)  # [U, D]
        keys = (raters[:, None, :] + self.label_vectors.weight).flatten(0, 1)
        values = (raters[:, None, :] + self.label_values.weight).flatten(0, 1)
        entry = torch.from_numpy(self.known.user)[at] * 3 + known_class[at]
        rated, _ = self.movie_side(of_user, keys, values, pair, entry, weight)
        user = self.norms[0](of_user + liked)
        others = self.norms[1](movie[items] + rated)
        looks = self.modality_side(user.unsqueeze(1), *self._looks(items, tokens))
        stack = torch.stack([user, others, looks.squeeze(1)], dim=1)
        present = torch.ones(stack.shape[:2], dtype=torch.bool)
        mixed = self.block(self.together(stack, stack, present))
        return torch.cat([mixed.flatten(1), of_user], dim=1)

    def _looks(self, items: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens of the pairs' movies [B, T, D], and which are present [B, T]; ``tokens`` [I, M, D] are all movies'."""
        if self.segment_tokens is None:
            return tokens[items], self.bank.mask[items]
        different, row = torch.unique(items, return_inverse=True)
        found, present = self.segment_tokens(different, tokens, self.project, self.kind)
        return found[row], present[row]

    def _movies(self) -> tuple[Tensor, Tensor]:
        """Modality tokens of all items [I, M, D], missing ones zero, and their mean over those present [I, D]."""
        tokens = [self.project[n](self.bank.vectors(n)) + self.kind[m] for m, n in enumerate(self.bank.names)]
        has = self.bank.mask.unsqueeze(-1)
        stacked = torch.where(has, torch.stack(tokens, dim=1), 0.0)
        return stacked, stacked.sum(1) / has.sum(1).clamp(min=1)

    def calculate_loss(self, interaction: Interaction) -> Tensor:
        """Cross-entropy, classes weighted, averaged over the heads; a scalar."""
        users, items, classes = self.training_pairs(interaction)
        hidden = torch.rand(len(users)) < self.hide_movie if self.hide_movie else None
        logits = self.member_logits(users, items, hidden)
        losses = [F.cross_entropy(one, classes, weight=self.class_weights) for one in logits]
        return torch.stack(losses).mean()

    def logits(self, users: Ids, items: Ids) -> Tensor:
        """Log of the mean probability over the heads, [B, 3]."""
        return self.member_logits(users, items).softmax(-1).mean(0).clamp(min=1e-12).log()
