"""Metrics of three classes against scikit-learn, and their place beside RecBole's own."""

import numpy as np
import pytest
import sklearn.metrics as sk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_mm.known_labels import CLASSES
from recbole_mm.metrics import NAMES, SMALLER_IS_BETTER, evaluate


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 60), st.integers(1, 3))
def test_equal_scikit_learn(seed, n, n_classes):
    draw = np.random.default_rng(seed)
    classes, p = draw.integers(0, n_classes, n), draw.dirichlet(np.ones(3) * 0.5, n)
    guesses, found = p.argmax(1), evaluate(classes, p)
    kw = {"labels": [0, 1, 2], "zero_division": 0}
    by_class = sk.precision_recall_fscore_support(classes, guesses, **kw)
    for name, values in zip(("precision", "recall", "f1"), by_class, strict=False):
        np.testing.assert_allclose([found[f"{c}_{name}"] for c in CLASSES], values)
    for average in ("macro", "weighted"):
        values = sk.precision_recall_fscore_support(classes, guesses, average=average, **kw)
        for name, value in zip(("precision", "recall", "f1"), values, strict=False):
            assert found[f"{average}_{name}"] == pytest.approx(value)
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(classes, guesses))
    recalls = sk.recall_score(classes, guesses, labels=np.unique(classes), average="macro", zero_division=0)
    assert found["balanced_accuracy"] == pytest.approx(recalls)
    assert found["log_loss"] == pytest.approx(sk.log_loss(classes, np.clip(p, 1e-15, 1), labels=[0, 1, 2]), abs=1e-6)
    assert found["ordinal_mae"] == pytest.approx(sk.mean_absolute_error(classes, guesses))
    kappa = sk.cohen_kappa_score(classes, guesses, labels=[0, 1, 2], weights="quadratic")
    assert found["quadratic_kappa"] == pytest.approx(0.0 if np.isnan(kappa) else kappa)


def test_calibration_error_by_hand():
    # four pairs of confidence 0.9, three of them right: |0.9 - 0.75|
    p = np.tile([0.9, 0.1, 0.0], (4, 1))
    assert evaluate(np.array([0, 0, 0, 1]), p)["calibration_error"] == pytest.approx(0.15)


def test_registered_in_recbole():
    from recbole.evaluator.register import metric_types, metrics_dict, smaller_metrics

    assert set(NAMES) <= metrics_dict.keys() & metric_types.keys()
    assert set(smaller_metrics) >= SMALLER_IS_BETTER
    assert {"ndcg", "recall", "precision", "auc"} <= metrics_dict.keys()
    p = torch.eye(3)
    metric = metrics_dict["macro_f1"]({"metric_decimal_place": 4})
    assert metric.calculate_metric({"rec.score": p, "data.label": torch.tensor([-1.0, 0, 1])}) == {"macro_f1": 1.0}
