"""Item-item weights in closed form: EASE with side information for items with history, kernel ridge for the others.

A user with history weights z [I] scores items by z B. Shapes: U users, I items (row 0 is padding), M modalities.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, diags
from scipy.sparse.linalg import svds

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class WarmSetting:
    """Hyper-parameters of :func:`warm_weights`."""

    reg: float
    popularity_reg: float
    user_power: float
    popularity_power: float


@dataclass(frozen=True)
class ColdSetting:
    """Hyper-parameters of :func:`cold_weights`."""

    reg: float
    smoothing: float
    rank: int


def gram(features: Mapping[str, Matrix], weights: Mapping[str, float]) -> Matrix:
    """sum_m w_m F_m F_m', [I, I]; F_m standardised, rows of items without a vector zero."""
    n_items = len(next(iter(features.values())))
    total = np.zeros((n_items, n_items))
    for name, vectors in features.items():
        if weights[name] > 0:
            total += weights[name] * (vectors @ vectors.T)
    return total


def gaussian_kernel(features: Mapping[str, Matrix], weights: Mapping[str, float]) -> Matrix:
    """1 + exp(-sum_m w_m |f_im - f_jm|^2), [I, I]; the 1 is the ridge's intercept, which carries popularity."""
    inner = gram(features, weights)
    norms = np.diag(inner)
    return np.asarray(1.0 + np.exp(2 * inner - norms[:, None] - norms[None, :]))


def warm_weights(histories: csr_matrix, content_gram: Matrix, setting: WarmSetting) -> Matrix:
    """EASE with side information, [I, I]; columns of items without history are zero.

    B = I - P / diag(P) with P = (Z' D Z + K + diag(reg + popularity_reg * diag(Z' D Z)))^-1, the columns divided by
    popularity^popularity_power. D weighs a user by n_u^-user_power, K is the content's Gram matrix, Z the history
    weights. Sources: EASE, Steck, WWW 2019; the extended Gram matrix, Jeunen et al., RecSys 2020; a penalty that
    grows with popularity, as dropout's, Steck, NeurIPS 2020.
    """
    activity = np.maximum(histories.getnnz(axis=1), 1).astype(float)
    user_weight = (activity / activity.mean()) ** -setting.user_power
    co = np.asarray((histories.T @ diags(user_weight) @ histories).todense(), dtype=np.float64)
    penalty = setting.reg + setting.popularity_reg * np.diag(co)
    precision = np.linalg.inv(co + content_gram + np.diag(penalty))
    weights = -precision / np.diag(precision)
    np.fill_diagonal(weights, 0.0)
    popularity = histories.getnnz(axis=0)
    weights /= np.maximum(popularity, 1) ** setting.popularity_power
    weights[:, popularity == 0] = 0.0
    return np.asarray(weights)


def cold_weights(histories: csr_matrix, kernel: Matrix, setting: ColdSetting) -> Matrix:
    """Kernel ridge from features to interaction columns, [I, I]; only columns of items without history are filled.

    B_wc = ((1 - s) I + s V V') (K_ww + reg I)^-1 K_wc, w the items with history, c those without; V [w, rank] are the
    leading right singular vectors of the histories: the regression's target is partly what the leading tastes say of
    an interaction instead of the interaction itself.
    """
    popularity = histories.getnnz(axis=0)
    warm, cold = np.flatnonzero(popularity > 0), np.flatnonzero(popularity == 0)
    weights = np.zeros(kernel.shape)
    if not len(warm) or not len(cold):
        return weights
    coefficients = np.linalg.solve(
        kernel[np.ix_(warm, warm)] + setting.reg * np.eye(len(warm)), kernel[np.ix_(warm, cold)]
    )
    rank = min(setting.rank, min(histories.shape[0], len(warm)) - 1)
    if setting.smoothing > 0 and rank > 0:
        # a fixed start makes ARPACK repeat
        start = np.ones(min(histories.shape[0], len(warm)))
        tastes = svds(histories[:, warm].astype(np.float64), k=rank, v0=start)[2].T
        smooth = tastes @ (tastes.T @ coefficients)
        coefficients = (1 - setting.smoothing) * coefficients + setting.smoothing * smooth
    weights[np.ix_(warm, cold)] = coefficients
    return weights
