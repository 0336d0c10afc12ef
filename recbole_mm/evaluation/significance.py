"""Intervals and paired tests between models that were evaluated on the same users."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
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
