"""What a modality is worth to a trained classifier: the drop when its vectors are shuffled among the movies."""

from typing import Any

import torch


def shuffled_modalities(parts: Any, *, seed: int = 0) -> dict[str, tuple[dict[str, float], dict[str, float]]]:
    """Test metrics of a loaded run as it is and with one modality shuffled, by modality.

    Only movies that have a vector take part, so that what is missing stays missing. The model is not trained anew.
    """
    model, trainer, bank = parts.model, parts.trainer, parts.model.bank
    whole = dict(trainer.evaluate(parts.test_data, load_best_model=False))
    found = {}
    for column, name in enumerate(bank.names):
        vectors = bank.vectors(name)
        kept = vectors.clone()
        there = torch.nonzero(bank.mask[:, column]).squeeze(1)
        order = torch.randperm(len(there), generator=torch.Generator().manual_seed(seed))
        vectors[there] = kept[there[order]]
        model.features_changed()
        found[name] = (whole, dict(trainer.evaluate(parts.test_data, load_best_model=False)))
        vectors.copy_(kept)
        model.features_changed()
    return found
