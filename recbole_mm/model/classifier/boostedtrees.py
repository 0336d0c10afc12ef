"""BoostedTrees: gradient-boosted trees on hand-made inputs, the reference that the classifiers are measured against.

Inputs: the GL-score and its parts, class shares and counts of user and movie, genres, year, the user's class shares in
the movie's genres and among movies with similar plots; all from known labels, a pair's own label left out. The trees
are scikit-learn's histogram trees (Ke et al., "LightGBM", NeurIPS 2017), fitted to the known labels.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from recbole_mm.config import Config, ModelConfig
from recbole_mm.data.facts import item_columns, read_item_column
from recbole_mm.known_labels import Ids, KnownLabels
from recbole_mm.model.classification import Classifier
from recbole_mm.model.label_features import LabelFeatures


class BoostedTreesConfig(ModelConfig):
    """Defaults live only in ``properties/model/BoostedTrees.yaml``."""

    max_iter: PositiveInt  # trees a class
    tree_learning_rate: PositiveFloat
    neighbour_modality: str | None  # whose similarity tells neighbours; none if empty or not registered
    neighbour_sharpness: PositiveFloat  # a neighbour weighs exp(sharpness cosine)
    year_field: str | None  # of the items; none if empty or absent


class BoostedTrees(Classifier):
    """P(class | u, m) by trees. Shapes: B pairs, I items."""

    trains = False

    def __init__(self, config: Config, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.hp = BoostedTreesConfig.from_recbole(config)
        self.genres, self.has_genres, self.seed = dataset.genres, dataset.has_genres, config["seed"]
        self.year = _years(dataset, self.hp.year_field)
        self.similarity = self._similarity(dataset)
        self.observe(dataset.known)

    def _similarity(self, dataset: Any) -> NDArray[np.float32] | None:
        if self.hp.neighbour_modality not in dataset.modalities:
            return None
        vectors = np.asarray(dataset.get_preload_weight(self.hp.neighbour_modality), dtype=np.float32)
        vectors = vectors * dataset.modality(self.hp.neighbour_modality).mask[:, None]
        unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
        return np.asarray(np.exp(self.hp.neighbour_sharpness * unit @ unit.T), dtype=np.float32)

    def observe(self, known: KnownLabels) -> None:
        """Fit the trees to these labels."""
        if getattr(self, "known", None) is known:
            return
        from sklearn.ensemble import HistGradientBoostingClassifier

        super().observe(known)
        self.features = LabelFeatures(
            known, self.genres, has_genres=self.has_genres, process=None, limit=1, chosen=(), weighted=True
        )
        trees = HistGradientBoostingClassifier(
            max_iter=self.hp.max_iter, learning_rate=self.hp.tree_learning_rate, random_state=0
        )
        self.trees = trees.fit(self._inputs(known.user, known.item), known.cls)

    def _inputs(self, users: Ids, items: Ids) -> NDArray[np.float64]:
        """Inputs of pairs, [B, D]; what is not known is NaN, which the trees take."""
        parts = [self.features.numbers(users, items).numpy(), self.genres[items], self.year[items, None]]
        if self.similarity is not None:
            parts.append(self._neighbours(users, items))
        return np.column_stack(parts).astype(np.float64)

    def _neighbours(self, users: Ids, items: Ids) -> NDArray[np.float64]:
        """Class shares among the user's other movies, weighted by similarity, [B, 3]."""
        assert self.similarity is not None
        pair, at = self.known.of_users(users, items)
        weight = self.similarity[items[pair], self.known.item[at]].astype(np.float64)
        sums = np.bincount(pair * 3 + self.known.cls[at], weight, minlength=len(users) * 3).reshape(-1, 3)
        return np.asarray((sums + 0.5) / (sums.sum(1, keepdims=True) + 1.5))

    def logits(self, users: Ids, items: Ids) -> Tensor:
        """Log-probabilities, [B, 3]."""
        found = self.trees.predict_proba(self._inputs(users, items))
        return torch.from_numpy(np.clip(found, 1e-12, None)).float().log()


def _years(dataset: Any, field: str | None) -> NDArray[np.float64]:
    """Year by item id, [I]; NaN where it is not known."""
    tokens = dataset.field2id_token[dataset.iid_field]
    file = Path(dataset.dataset_path) / f"{dataset.dataset_name}.item"
    if field is None or not file.is_file() or field not in item_columns(file, dataset.config):
        return np.full(len(tokens), np.nan)
    years = pd.to_numeric(pd.Series(read_item_column(file, field, dataset.config)), errors="coerce")
    by_token = dict(zip(read_item_column(file, dataset.iid_field, dataset.config), years, strict=True))
    return np.array([by_token.get(str(token), np.nan) for token in tokens], dtype=np.float64)
