"""The closed-form part of a model's score: a user's history times item-item weights, as torch buffers."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, hstack
from torch import Tensor, nn

from recbole_mm.errors import ConfigError
from recbole_mm.model.fusion import ModalityBank
from recbole_mm.model.item_item import (
    ColdSetting,
    Matrix,
    WarmSetting,
    cold_weights,
    gaussian_of,
    gram,
    warm_weights,
)

InnerProducts = Callable[[Mapping[str, float]], Matrix]  # of weights by modality

MAX_ITEMS = 20_000  # solving holds 4 x items^2 numbers of 8 bytes: 13 GB at the limit
_MAX_PARTED = 4_000  # items; each modality's part of B is as large and as long to solve as B
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
        self._warm, self._cold = warm, cold
        self._warm_content = by_modality(warm_content, bank.names)
        self._cold_kernel = by_modality(cold_kernel, bank.names)
        weights = self._solve(_inner(bank.extended(None)[0], kept=False), histories)
        self.register_buffer("weights", torch.from_numpy(weights), persistent=False)
        self.histories = histories.astype(np.float32)
        n_users, n_items = histories.shape
        self._all: Tensor | None = None
        if n_users * n_items <= _CACHED_CELLS:
            self._all = torch.from_numpy(np.asarray(self.histories @ self.weights.numpy()))

    def _solve(self, inner: InnerProducts, histories: csr_matrix, silent: str | None = None) -> NDArray[Any]:
        """B [I + n, I + n], as it would be if modality ``silent`` told nothing; n items without a history come last."""
        warm_content, cold_kernel = (
            {name: 0.0 if name == silent else weight for name, weight in given.items()}
            for given in (self._warm_content, self._cold_kernel)
        )
        kernel = inner(warm_content)
        n_new = len(kernel) - histories.shape[1]
        if n_new:
            histories = hstack([histories, csr_matrix((histories.shape[0], n_new))], format="csr")
        weights = warm_weights(histories > 0, kernel, self._warm)
        if (histories.getnnz(axis=0)[1:] == 0).any():
            weights = weights + cold_weights(histories, gaussian_of(inner(cold_kernel)), self._cold)
        weights[0] = weights[:, 0] = 0.0
        return weights.astype(np.float32)

    def by_parts(self, vectors: Mapping[str, Tensor]) -> tuple[NDArray[Any], dict[str, NDArray[Any]]]:
        """B, and by modality B less what it is without it: solved again, so these do not add up to B.

        ``vectors`` [I + n, F_m] by modality are standardised, with those of n items that came after training last.
        Above 4,000 items B is not taken apart.
        """
        n_items, n_all = len(self.weights), len(next(iter(vectors.values())))
        whole, histories = self.weights.cpu().numpy(), self.histories.astype(np.float64)
        names = tuple(vectors) if n_all <= _MAX_PARTED else ()
        inner = _inner(vectors, kept=bool(names))
        if n_all > n_items:
            grown = self._solve(inner, histories)
            grown[:n_items, :n_items] = whole  # as trained, to the last bit
            whole = grown
        return whole, {name: whole - self._solve(inner, histories, name) for name in names}

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


def _inner(vectors: Mapping[str, Tensor], *, kept: bool) -> InnerProducts:
    """sum_m w_m F_m F_m' by the weights w; ``kept`` holds M matrices [I, I] so that asking again costs little."""
    features = {name: part.cpu().numpy().astype(np.float64) for name, part in vectors.items()}
    if not kept:
        return lambda weights: gram(features, weights)
    products = {name: part @ part.T for name, part in features.items()}
    nothing = np.zeros_like(next(iter(products.values())))
    return lambda weights: sum((weights[name] * part for name, part in products.items()), start=nothing)


def by_modality(given: Mapping[str, float], names: tuple[str, ...]) -> dict[str, float]:
    """The weight of each modality; ``default`` is that of modalities which are not named.

    Raises:
        ConfigError: a modality is not named and there is no default.
    """
    missing = [name for name in names if name not in given and "default" not in given]
    if missing:
        raise ConfigError(f"no weight for modality '{missing[0]}' in {dict(given)}; name it, or give a 'default'")
    return {name: float(given[name] if name in given else given["default"]) for name in names}
