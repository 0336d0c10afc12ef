"""Metrics of three-class labels, registered beside RecBole's own and named as its metrics are.

They read class probabilities [N, 3] (``rec.score``) and labels -1, 0, 1 [N] (``data.label``); the predicted class is
the likeliest one. ``accuracy``, ``balanced_accuracy``, ``log_loss``, ``ordinal_mae``, ``quadratic_kappa``,
``calibration_error``, and ``<average>_<score>``: average of macro, weighted, dislike, neutral, like; score of
precision, recall, f1.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recbole_mm import compat
from recbole_mm.known_labels import CLASSES

compat.apply()

from recbole.evaluator import evaluator as recbole_evaluator  # noqa: E402
from recbole.evaluator import register  # noqa: E402
from recbole.evaluator.base_metric import AbstractMetric  # noqa: E402
from recbole.utils import EvaluatorType  # noqa: E402

Floats = NDArray[np.float64]
_BINS = 15  # of the calibration error


def confusion_matrix(classes: NDArray[np.int64], guesses: NDArray[np.int64]) -> NDArray[np.int64]:
    """Counts by class (rows) and predicted class (columns), [3, 3]."""
    return np.bincount(classes * 3 + guesses, minlength=9).reshape(3, 3)


def _by_class(counts: NDArray[np.int64]) -> dict[str, Floats]:
    """Precision, recall and F1 of each class [3]; 0 where nothing was predicted, or nothing is there."""
    hits = np.diag(counts).astype(float)
    predicted, there = np.maximum(counts.sum(0), 1), np.maximum(counts.sum(1), 1)
    f1 = 2 * hits / np.maximum(counts.sum(0) + counts.sum(1), 1)
    return {"precision": hits / predicted, "recall": hits / there, "f1": f1}


def _quadratic_kappa(counts: NDArray[np.int64]) -> float:
    """1 - observed / expected squared distance on the scale (Cohen 1968); 0 where neither varies."""
    distance = (np.arange(3)[:, None] - np.arange(3)) ** 2
    expected = np.outer(counts.sum(1), counts.sum(0)) / max(counts.sum(), 1)
    bottom = float((distance * expected).sum())
    return 1.0 - float((distance * counts).sum()) / bottom if bottom > 0 else 0.0


def _calibration_error(classes: NDArray[np.int64], probabilities: Floats) -> float:
    """Mean distance of confidence and accuracy over 15 equal bins of confidence (Guo et al., ICML 2017)."""
    confidence, right = probabilities.max(1), probabilities.argmax(1) == classes
    bins = np.clip(np.ceil(confidence * _BINS).astype(int) - 1, 0, _BINS - 1)
    gap = np.bincount(bins, confidence - right, minlength=_BINS)
    return float(np.abs(gap).sum() / len(classes))


def evaluate(classes: NDArray[np.int64], probabilities: Floats) -> dict[str, float]:
    """Every metric of classes 0, 1, 2 [N] and probabilities [N, 3], by name."""
    counts = confusion_matrix(classes, probabilities.argmax(1))
    share, by_class = counts.sum(1) / counts.sum(), _by_class(counts)
    present = share > 0
    distance = np.abs(np.arange(3)[:, None] - np.arange(3))
    seen = probabilities[np.arange(len(classes)), classes]
    found = {
        "accuracy": float(np.trace(counts) / counts.sum()),
        "balanced_accuracy": float(by_class["recall"][present].mean()),
        "log_loss": float(-np.log(np.clip(seen, 1e-15, None)).mean()),
        "ordinal_mae": float((distance * counts).sum() / counts.sum()),
        "quadratic_kappa": _quadratic_kappa(counts),
        "calibration_error": _calibration_error(classes, probabilities),
    }
    for name, values in by_class.items():
        found[f"macro_{name}"] = float(values.mean())
        found[f"weighted_{name}"] = float((share * values).sum())
        found.update({f"{label}_{name}": float(value) for label, value in zip(CLASSES, values, strict=True)})
    return found


SMALLER_IS_BETTER = {"log_loss", "ordinal_mae", "calibration_error"}
NAMES = tuple(evaluate(np.arange(3), np.eye(3)))


def _metric(name: str) -> type:
    def calculate_metric(self: Any, dataobject: Any) -> dict[str, float]:
        probabilities = dataobject.get("rec.score").numpy().astype(np.float64)
        classes = (dataobject.get("data.label").numpy() + 1).astype(np.int64)
        return {name: round(evaluate(classes, probabilities)[name], self.decimal_place)}

    members: dict[str, Any] = {
        "calculate_metric": calculate_metric,
        "metric_type": EvaluatorType.VALUE,
        "metric_need": ["rec.score", "data.label"],
        "smaller": name in SMALLER_IS_BETTER,
        "__doc__": f"{name} of three-class labels, see :mod:`recbole_mm.metrics`.",
    }
    return type(name, (AbstractMetric,), members)


def _register(add: Callable[[str], type]) -> None:
    for name in NAMES:
        register.metrics_dict[name] = recbole_evaluator.metrics_dict[name] = add(name)
        register.metric_information[name] = ["rec.score", "data.label"]
        register.metric_types[name] = EvaluatorType.VALUE
        if name in SMALLER_IS_BETTER and name not in register.smaller_metrics:
            register.smaller_metrics.append(name)


_register(_metric)
