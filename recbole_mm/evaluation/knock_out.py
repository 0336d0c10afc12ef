"""What a modality is worth to a trained classifier: the drop when its vectors are shuffled among the movies."""

from collections.abc import Sequence
from typing import Any

import torch

ALL = "all"


def shuffled_modalities(parts: Any, *, seed: int = 0) -> dict[str, tuple[dict[str, float], dict[str, float]]]:
    """Test metrics of a loaded run as it is and with one modality shuffled, by modality, and all (``all``).

    Only movies that have a vector take part, so that what is missing stays missing. The model is not trained anew.
    """
    names = parts.model.bank.names
    whole = dict(parts.trainer.evaluate(parts.test_data, load_best_model=False))
    groups = {name: [name] for name in names} | ({ALL: list(names)} if len(names) > 1 else {})
    return {name: (whole, _shuffled(parts, group, seed)) for name, group in groups.items()}


def _shuffled(parts: Any, names: Sequence[str], seed: int) -> dict[str, float]:
    """Test metrics with these modalities shuffled, each by an order of its own; the model is left as it was."""
    model, bank, generator = parts.model, parts.model.bank, torch.Generator().manual_seed(seed)
    orders = {}
    for name in names:
        there = torch.nonzero(bank.mask[:, bank.names.index(name)]).squeeze(1)
        orders[name] = torch.arange(len(bank.mask))
        orders[name][there] = there[torch.randperm(len(there), generator=generator)]
        model.exchange(name, orders[name])
    model.features_changed()
    try:
        return dict(parts.trainer.evaluate(parts.test_data, load_best_model=False))
    finally:
        for name, order in orders.items():
            model.exchange(name, torch.argsort(order))
        model.features_changed()
