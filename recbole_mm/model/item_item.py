"""Item-item weights in closed form: EASE with side information for items with history, kernel ridge for the others.

A user with history weights z [I] scores items by z B. Shapes: U users, I items (row 0 is padding), M modalities.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dpotrf, dpotri
from scipy.sparse import csr_matrix, diags
from scipy.sparse.linalg import svds

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class WarmSetting:
    """Hyper-parameters of :func:`warm_weights`."""

    reg: float
    reg_power: float
    user_power: float
    similarity: float
    content: float
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
    return gaussian_of(gram(features, weights))


def gaussian_of(inner: Matrix) -> Matrix:
    """As :func:`gaussian_kernel`, from the weighted inner products [I, I]."""
    norms = np.diag(inner)
    return np.asarray(1.0 + np.exp(2 * inner - norms[:, None] - norms[None, :]))


def warm_gram(interactions: csr_matrix, kernel: Matrix, setting: WarmSetting) -> Matrix:
    """Co-occurrence of items, told by content which co-occurrences to trust, [I, I].

    G = X' D X, D weighing a user by n_u^-user_power (rescaled to keep the number of interactions), becomes
    G * M / sqrt(diag M diag M') with M = 1 + similarity K (element-wise: the co-occurrence of unlike items shrinks),
    plus content K * s s' with s = sqrt(diag G) (content counts in proportion to the items' interactions).
    K [I, I] is a content kernel. An extended Gram matrix: Jeunen et al., RecSys 2020; the rest is ours. Both factors
    are positive semi-definite, so G stays so (Schur's product theorem).
    """
    activity = np.maximum(interactions.getnnz(axis=1), 1).astype(float)
    user_weight = activity**-setting.user_power
    user_weight *= interactions.nnz / max((user_weight * interactions.getnnz(axis=1)).sum(), 1e-12)
    co = np.asarray((interactions.T @ diags(user_weight) @ interactions).todense(), dtype=np.float64)
    # in place throughout: items^2 numbers are what limits this model
    factor = setting.similarity * kernel
    factor += 1.0
    _scale(factor, 1.0 / np.sqrt(np.diag(factor)))
    co *= factor
    np.multiply(kernel, setting.content, out=factor)
    _scale(factor, np.sqrt(np.diag(co)))
    co += factor
    return co


def _scale(matrix: Matrix, by: NDArray[np.float64]) -> None:
    """matrix_ij * by_i * by_j, in place."""
    matrix *= by[:, None]
    matrix *= by[None, :]


def warm_weights(interactions: csr_matrix, kernel: Matrix, setting: WarmSetting) -> Matrix:
    """EASE on :func:`warm_gram`, [I, I]; columns of items without history are zero.

    B = I - P / diag(P) with P = (G + reg diag((d / mean d)^reg_power))^-1, d the items' popularity; the columns are
    divided by (d / mean d)^popularity_power. Source of EASE: Steck, WWW 2019.
    """
    popularity = interactions.getnnz(axis=0)
    seen = popularity > 0
    relative = np.maximum(popularity, 1) / max(popularity[seen].mean() if seen.any() else 1.0, 1.0)
    weights = warm_gram(interactions, kernel, setting)
    weights[np.diag_indices_from(weights)] += setting.reg * relative**setting.reg_power
    weights = _inverse(weights)
    weights /= -np.diag(weights) * relative**setting.popularity_power
    np.fill_diagonal(weights, 0.0)
    weights[:, ~seen] = 0.0
    return weights


def _inverse(matrix: Matrix) -> Matrix:
    """Inverse of a symmetric positive definite matrix, which is overwritten.

    Raises:
        LinAlgError: it is not positive definite.
    """
    # Fortran order of a symmetric matrix is its transpose: the same memory, no copy
    factor, failed = dpotrf(matrix.T, lower=True, overwrite_a=True, clean=True)
    if not failed:
        factor, failed = dpotri(factor, lower=True, overwrite_c=True)
    if failed:
        raise np.linalg.LinAlgError("the item-item matrix is not positive definite")
    inverse = factor + factor.T  # the lower triangle is filled, the upper is zero
    inverse[np.diag_indices_from(inverse)] /= 2
    return np.asarray(inverse)


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
