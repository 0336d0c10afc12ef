"""The closed-form part of a model's score: a user's history times item-item weights, as torch buffers."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor, nn

from recbole_mm.errors import ConfigError
from recbole_mm.model.fusion import ModalityBank
from recbole_mm.model.item_item import (
    ColdSetting,
    WarmSetting,
    cold_weights,
    gaussian_kernel,
    gram,
    warm_weights,
)

MAX_ITEMS = 20_000  # solving holds 4 x items^2 numbers of 8 bytes: 13 GB and a quarter of an hour at the limit
_CACHED_CELLS = 64_000_000  # users x items scores that are kept: 256 MB


def history_weights(dataset: Any, rating_field: str, power: float) -> csr_matrix:
    """Users' histories [U, I]: (rating / mean rating)^power, or 1 where there are no ratings or power is 0."""
    histories = dataset.inter_matrix(form="csr").astype(np.float64)
    histories.sum_duplicates()
    histories.data[:] = 1.0
    if power == 0 or rating_field not in dataset.inter_feat:
        return histories
    ratings = dataset.inter_feat[rating_field].numpy().astype(np.float64)
    if not (np.isfinite(ratings).all() and ratings.min() >= 0 and ratings.max() > 0):
        raise ConfigError(f"rating_power={power} needs ratings >= 0 in '{rating_field}'; set rating_power: 0")
    weighted = dataset.inter_matrix(form="csr", value_field=rating_field).astype(np.float64)
    counts = dataset.inter_matrix(form="csr").astype(np.float64)
    for matrix in (weighted, counts):
        matrix.sum_duplicates()
    weighted.data = (weighted.data / counts.data / ratings.mean()) ** power
    return weighted


class ClosedForm(nn.Module):
    """Scores z B, with z a user's history weights and B from :mod:`recbole_mm.model.item_item`."""

    weights: Tensor

    def __init__(
        self,
        bank: ModalityBank,
        histories: csr_matrix,
        *,
        warm: WarmSetting,
        warm_content: Mapping[str, float],
        cold: ColdSetting,
        cold_kernel: Mapping[str, float],
    ) -> None:
        super().__init__()
        if histories.shape[1] > MAX_ITEMS:
            raise ConfigError(
                f"{histories.shape[1]} items are too many for item-item weights (at most {MAX_ITEMS}); "
                "set item_item_weight: 0"
            )
        features = {name: bank.vectors(name).numpy().astype(np.float64) for name in bank.names}
        weights = warm_weights(histories > 0, gram(features, by_modality(warm_content, bank.names)), warm)
        if (histories.getnnz(axis=0)[1:] == 0).any():
            kernel = gaussian_kernel(features, by_modality(cold_kernel, bank.names))
            weights = weights + cold_weights(histories, kernel, cold)
        weights[0] = weights[:, 0] = 0.0
        self.register_buffer("weights", torch.from_numpy(weights.astype(np.float32)), persistent=False)
        self.histories = histories.astype(np.float32)
        n_users, n_items = histories.shape
        self._all: Tensor | None = None
        if n_users * n_items <= _CACHED_CELLS:
            self._all = torch.from_numpy(np.asarray(self.histories @ self.weights.numpy()))

    def forward(self, users: Tensor) -> Tensor:
        """User ids [U] to scores of all items, [U, I]."""
        if self._all is not None:
            if self._all.device != users.device:
                self._all = self._all.to(users.device)
            return self._all[users]
        dense = torch.from_numpy(self.histories[users.cpu().numpy()].toarray()).to(users.device)
        return dense @ self.weights

    def of_histories(self, watched: list[Tensor]) -> Tensor:
        """Scores [U, I] for people given as the item ids that they watched."""
        rows = [self.weights[items].sum(0) for items in watched]
        return torch.stack(rows)


def by_modality(given: Mapping[str, float], names: tuple[str, ...]) -> dict[str, float]:
    """The weight of each modality; ``default`` is that of modalities which are not named.

    Raises:
        ConfigError: a modality is not named and there is no default.
    """
    missing = [name for name in names if name not in given and "default" not in given]
    if missing:
        raise ConfigError(f"no weight for modality '{missing[0]}' in {dict(given)}; name it, or give a 'default'")
    return {name: float(given[name] if name in given else given["default"]) for name in names}
