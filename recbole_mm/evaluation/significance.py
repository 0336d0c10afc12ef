"""Intervals and paired tests between models that were evaluated on the same users."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval."""

    mean: float
    low: float
    high: float


def mean_interval(values: ArrayLike, confidence: float = 0.95) -> Interval:
    """Mean of ``values`` [n] and its t-interval; with a single value, or no spread, the interval is the mean."""
    array = np.asarray(values, dtype=float)
    mean = float(array.mean())
    if len(array) < 2 or not array.std(ddof=1) > 0:
        return Interval(mean, mean, mean)
    low, high = stats.t.interval(confidence, len(array) - 1, loc=mean, scale=stats.sem(array))
    return Interval(mean, float(low), float(high))


@dataclass(frozen=True)
class Paired:
    """The mean difference a - b over users with its 95 % interval, and the p-value of a two-sided paired t-test."""

    difference: Interval
    p_value: float


def paired_test(a: ArrayLike, b: ArrayLike) -> Paired:
    """Compare two models over the same users, [users] each; identical values have p = 1.

    Raises:
        ValueError: the two are not of one length.
    """
    first, second = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if first.shape != second.shape:
        raise ValueError(f"{len(first)} and {len(second)} users; expected the same users for both")
    difference = first - second
    if len(difference) < 2 or not difference.std(ddof=1) > 0:
        p_value = 1.0 if not difference.any() else 0.0
    else:
        p_value = float(stats.ttest_rel(first, second).pvalue)
    return Paired(mean_interval(difference), p_value)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number (Holm, Scandinavian Journal of Statistics 1979), in the given order."""
    from statsmodels.stats.multitest import multipletests

    return [float(p) for p in multipletests(p_values, method="holm")[1]] if p_values else []


@dataclass(frozen=True)
class LabelComparison:
    """Two classifiers on the same test labels: differences a - b with 95 % intervals, and two-sided p-values."""

    accuracy: Interval
    macro_f1: Interval
    p_accuracy: float  # paired bootstrap over users
    p_macro_f1: float  # paired bootstrap over users
    p_mcnemar: float  # exact, over labels


def compare_labels(
    classes: NDArray[np.int64],
    guesses_a: NDArray[np.int64],
    guesses_b: NDArray[np.int64],
    users: ArrayLike,
    *,
    draws: int = 2000,
    seed: int = 0,
) -> LabelComparison:
    """Compare predicted classes [N] of two models on the same labels [N].

    The bootstrap draws whole users: the labels of a user are not independent (Efron & Tibshirani, 1993). McNemar's
    exact test counts the labels that only one model gets right (Psychometrika 1947).

    Raises:
        ValueError: the arrays are not of one length.
    """
    if not len(classes) == len(guesses_a) == len(guesses_b):
        raise ValueError(f"{len(classes)} labels, {len(guesses_a)} and {len(guesses_b)} predictions; expected as many")
    _, user = np.unique(np.asarray(users), return_inverse=True)
    cells = []
    for guesses in (guesses_a, guesses_b):
        table = np.bincount(user * 9 + classes * 3 + guesses, minlength=(user.max() + 1) * 9)
        cells.append(table.reshape(-1, 9).astype(float))  # confusion counts by user
    n_users = len(cells[0])
    drawn = np.random.default_rng(seed).multinomial(n_users, np.full(n_users, 1 / n_users), size=draws)
    whole = [_scores(table.sum(0)[None]) for table in cells]
    spread = [_scores(drawn @ table) for table in cells]
    intervals, p_values = [], []
    for score in range(2):
        observed = float(whole[0][score][0] - whole[1][score][0])
        differences = spread[0][score] - spread[1][score]
        low, high = np.quantile(differences, [0.025, 0.975])
        intervals.append(Interval(observed, float(low), float(high)))
        tail = min((differences <= 0).sum(), (differences >= 0).sum())
        p_values.append(min(1.0, 2 * (int(tail) + 1) / (draws + 1)))
    only_a = int(((guesses_a == classes) & (guesses_b != classes)).sum())
    only_b = int(((guesses_b == classes) & (guesses_a != classes)).sum())
    p_mcnemar = float(stats.binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
    return LabelComparison(intervals[0], intervals[1], p_values[0], p_values[1], p_mcnemar)


def _scores(cells: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Accuracy and macro-F1 [R] of confusion counts [R, 9]."""
    tables = cells.reshape(-1, 3, 3)
    hits = np.einsum("rcc->rc", tables)
    f1 = 2 * hits / np.maximum(tables.sum(1) + tables.sum(2), 1e-9)
    return hits.sum(1) / tables.sum((1, 2)), f1.mean(1)
