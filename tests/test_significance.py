import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from recbole_mm.comparison import compare, describe, table
from recbole_mm.errors import ConfigError, RecBoleMMError
from recbole_mm.evaluation.significance import compare_labels, holm, mean_interval, paired_test

VALUES = st.lists(st.floats(-5, 5), min_size=2, max_size=30)


@settings(max_examples=50, deadline=None)
@given(VALUES)
def test_interval_is_the_t_formula(values):
    array = np.array(values)
    found = mean_interval(array)
    half = stats.t.ppf(0.975, len(array) - 1) * array.std(ddof=1) / np.sqrt(len(array))
    assert found.mean == pytest.approx(array.mean())
    assert found.high - found.mean == pytest.approx(half, abs=1e-9)
    assert found.low <= found.mean <= found.high


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_its_definition(p_values):
    order = np.argsort(p_values, kind="stable")
    running, expected = 0.0, [0.0] * len(p_values)
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        expected[index] = running
    np.testing.assert_allclose(holm(p_values), expected)


def test_paired_test_on_known_cases():
    draw = np.random.default_rng(0)
    base = draw.random(400)
    assert paired_test(base, base).p_value == 1.0
    assert paired_test(base + 0.05 + 0.01 * draw.normal(size=400), base).p_value < 1e-6
    assert paired_test(base, draw.permutation(base)).p_value > 1e-3
    # p-values of a true null hypothesis are uniform
    nulls = [paired_test(draw.normal(size=50), draw.normal(size=50)).p_value for _ in range(300)]
    assert stats.kstest(nulls, "uniform").pvalue > 1e-3
    with pytest.raises(ValueError, match="same users"):
        paired_test([1.0], [1.0, 2.0])


def test_comparison_of_a_tiny_data_set(planted):
    parameters = {
        "data_path": str(planted.root), "epochs": "2", "topk": "[10]",
        "load_col": "{inter: [user_id, item_id, rating]}",
    }  # fmt: skip
    found = compare(["Pop", "EASE"], planted.name, seeds=2, config=parameters, directory="cmp")
    assert [row.model for row in found.rows] == ["EASE", "Pop"]
    best, other = found.rows
    assert best.difference.mean == pytest.approx(-other.difference.mean)
    assert best.p_value < 0.05
    header, rows = table(found)
    assert len(header) == len(rows[0])
    assert "Holm" in describe(found)
    for suffix in ("md", "csv", "json", "png"):
        assert (found.directory / f"comparison.{suffix}").stat().st_size > 0
    for left in ("result.json", "model.safetensors"):  # as if it had been stopped in its first run
        (found.directory / "runs" / "Pop" / "2020" / left).unlink()
    again = compare(["Pop", "EASE"], planted.name, seeds=2, config=parameters, directory="cmp")
    assert [row.metrics for row in again.rows] == [row.metrics for row in found.rows]


def test_classifiers_are_compared_by_a_metric_where_less_is_better(labelled):
    parameters = {
        "data_path": str(labelled.root), "load_col": "{inter: [user_id, item_id, label]}", "folds": "2",
        "metrics": "[accuracy, log_loss]", "valid_metric": "log_loss",
    }  # fmt: skip
    models = ["MajorityClass", "UserClassMean"]
    found = compare(models, labelled.name, seeds=1, config=parameters, directory="cmp")
    first, second = (row.metrics["log_loss"].mean for row in found.rows)
    assert first < second
    assert table(found)[0][:3] == ["model", "log_loss", "accuracy"]
    with pytest.raises(ConfigError, match="expected one of accuracy, log_loss"):
        compare(models, labelled.name, seeds=1, config={**parameters, "metrics": "[macro_f1, log_loss]"},
                metric="macro_f1", directory="other")  # fmt: skip


def test_comparison_refuses_nonsense(planted):
    with pytest.raises(ConfigError, match="at least two"):
        compare(["Pop"], planted.name)
    with pytest.raises(ConfigError, match=r"'Popp'.*did you mean 'Pop'"):
        compare(["Popp", "EASE"], planted.name)
    with pytest.raises(RecBoleMMError, match=r"Pop, seed 2020: .*epochs='many'"):
        compare(["Pop", "EASE"], planted.name, config={"data_path": str(planted.root), "epochs": "many"}, directory="c")


def test_two_classifiers_on_the_same_labels():
    from sklearn.metrics import accuracy_score, f1_score
    from statsmodels.stats.contingency_tables import mcnemar

    draw = np.random.default_rng(0)
    classes, users = draw.integers(0, 3, 1500), draw.integers(0, 90, 1500)
    good, bad = (np.where(draw.random(1500) < share, classes, draw.integers(0, 3, 1500)) for share in (0.7, 0.4))
    found = compare_labels(classes, good, bad, users)
    assert found.accuracy.mean == pytest.approx(accuracy_score(classes, good) - accuracy_score(classes, bad))
    f1 = [f1_score(classes, guesses, average="macro") for guesses in (good, bad)]
    assert found.macro_f1.mean == pytest.approx(f1[0] - f1[1])
    assert found.accuracy.low < found.accuracy.mean < found.accuracy.high
    assert max(found.p_accuracy, found.p_macro_f1, found.p_mcnemar) < 0.01
    right = np.stack([good == classes, bad == classes])
    table = [[(right[0] & right[1]).sum(), (right[0] & ~right[1]).sum()], [(~right[0] & right[1]).sum(), 0]]
    assert found.p_mcnemar == pytest.approx(mcnemar(np.array(table), exact=True).pvalue)
    same = compare_labels(classes, good, good, users)
    assert (same.p_accuracy, same.p_macro_f1, same.p_mcnemar) == (1.0, 1.0, 1.0)
