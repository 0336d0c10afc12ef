"""A vector for a person whom the model was not trained on, in closed form, with everything else frozen.

The trained users' vectors e_u are regressed on their histories: e ~ (W_0 + W_1 / sqrt(n) + W_2 / n) S + c with
S = sum_j s_j q_j over the n items watched (s_j = -1 for what counts against). One ridge regression serves every
matching, takes microseconds for a person, and is linear in the watched items, so that explanations add up. The
regularisation is the one whose top 20 agree best with the trained vectors' on users left out of the regression.
Measured against it on imdb, users left out: solving each person's own ridge (as in implicit ALS) or softmax
regression agrees less (docs/recommend.md).
"""

from dataclasses import dataclass

import numpy as np

from recbole_mm.model.scoring import Array, ScoringParts
from recbole_mm.recommend.histories import Histories
from recbole_mm.recommend.scorer import Person, Scorer

TOP = 20
_REGULARISATIONS = (0.01, 0.1, 1.0, 10.0)  # per user, of inputs with unit mean square norm
_SAMPLE = 20_000  # users whose histories are read at most
_CHECKED = 150  # held-out users whose top 20 are compared


@dataclass(frozen=True)
class FoldIn:
    """``weights`` [3 D + 1, D] (W_0, W_1, W_2 and c), and how they do for users left out of the regression."""

    weights: Array
    regularisation: float
    overlap: float  # mean share of the top 20 in common with the trained vector's


def fit(parts: ScoringParts, histories: Histories, *, seed: int = 0) -> FoldIn | None:
    """Fit on the trained users; None where the model has no user vectors, or fewer than four users with a history."""
    if parts.users is None or parts.items is None:
        return None
    draw = np.random.default_rng(seed)
    users = np.flatnonzero(np.diff(histories.starts) > 0)
    users = draw.permutation(users)[:_SAMPLE]
    if len(users) < 4:
        return None
    inputs = np.stack([_summary(parts.items, histories.of(u).items) for u in users])
    targets = np.asarray(parts.users[users], dtype=np.float64)
    fitted = len(users) * 4 // 5
    left_out = users[fitted : fitted + _CHECKED]
    agreement = {}
    for reg in _REGULARISATIONS:
        weights = _ridge(inputs[:fitted], targets[:fitted], reg)
        agreement[reg] = _overlap(parts, weights, histories, left_out)
    best = max(agreement, key=lambda reg: agreement[reg])
    return FoldIn(_ridge(inputs, targets, best), best, agreement[best])


def _summary(items: Array, watched: Array) -> Array:
    """[S, S / sqrt(n), S / n], [3 D]."""
    total = items[watched].sum(axis=0, dtype=np.float64)
    n = len(watched)
    return np.concatenate([total, total / np.sqrt(n), total / n])


def _ridge(inputs: Array, targets: Array, reg: float) -> Array:
    """[3 D + 1, D]; the intercept is not regularised, and the three inputs are brought to one scale first."""
    width = inputs.shape[1] // 3
    scale = np.sqrt((inputs.reshape(len(inputs), 3, width) ** 2).sum(axis=2).mean(axis=0))
    scaled = inputs / np.maximum(np.repeat(scale, width), 1e-12)
    middle, level = scaled.mean(axis=0), targets.mean(axis=0)
    centred = scaled - middle
    gram = centred.T @ centred + reg * np.eye(inputs.shape[1])
    slope = np.linalg.solve(gram, centred.T @ (targets - level))
    constant = level - middle @ slope
    return np.vstack([slope / np.maximum(np.repeat(scale, width), 1e-12)[:, None], constant]).astype(np.float32)


def _overlap(parts: ScoringParts, weights: Array, histories: Histories, users: Array) -> float:
    scorer, shares = Scorer(parts, weights), []
    for user in users:
        history = histories.of(user)
        tops = []
        for known in (int(user), None):
            scores = scorer.scores([Person(history.items, history.weights, known)])[0]
            scores[0] = scores[history.items] = -np.inf
            tops.append(set(np.argpartition(-scores, min(TOP, len(scores) - 1))[:TOP].tolist()))
        shares.append(len(tops[0] & tops[1]) / TOP)
    return float(np.mean(shares))
