"""RecBole's own models that can score people whom they were not trained on, as plain arrays."""

from typing import Any

import numpy as np

from recbole_mm.model.scoring import NewItems, ScoringParts, to_array

MAX_DENSE_ITEMS = 30_000


def parts_of(model: Any, new: NewItems | None = None) -> ScoringParts | str:
    """The model's arrays, or why it has none: one line that says what would do instead."""
    name = type(model).__name__
    if hasattr(model, "scoring_parts"):
        parts: ScoringParts = model.scoring_parts(new)
        return parts
    if new is not None:
        return f"{name} scores items by their interactions alone, so that a new film has no score"
    if name in {"EASE", "ItemKNN", "SLIMElastic"}:
        return _item_item(model, name)
    if name in {"BPR", "LightGCN"}:
        users, items = model() if name == "LightGCN" else (model.user_embedding.weight, model.item_embedding.weight)
        return ScoringParts(items=to_array(items), users=to_array(users))
    return refusal(name)


def refusal(name: str) -> str:
    """Why a model cannot score somebody new."""
    return (
        f"{name} cannot score somebody it was not trained on; use a model of this package, or RecBole's EASE, "
        "ItemKNN (knn_method: item), SLIMElastic, BPR or LightGCN"
    )


def _item_item(model: Any, name: str) -> ScoringParts | str:
    """Item-item weights: EASE and SLIM by their weights, ItemKNN by its similarities."""
    if name == "ItemKNN" and model.method != "item":
        return refusal(name)
    if model.n_items > MAX_DENSE_ITEMS:
        return f"{name} on {model.n_items} items: item-item weights are served for at most {MAX_DENSE_ITEMS}"
    weights = model.w if name == "ItemKNN" else model.item_similarity
    dense = weights.toarray() if hasattr(weights, "toarray") else weights
    return ScoringParts(item_item=np.asarray(dense, dtype=np.float32))
