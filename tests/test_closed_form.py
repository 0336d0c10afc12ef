"""The closed-form parts against something independent: plain least squares, scikit-learn, RecBole's own EASE."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from sklearn.kernel_ridge import KernelRidge

from recbole_mm.errors import ConfigError
from recbole_mm.model.closed_form import by_modality, history_weights
from recbole_mm.model.item_item import (
    ColdSetting,
    WarmSetting,
    cold_weights,
    gaussian_kernel,
    gram,
    warm_gram,
    warm_weights,
)


def interactions(seed, users=30, items=12):
    matrix = (np.random.default_rng(seed).random((users, items)) < 0.3).astype(float)
    matrix[:, 0] = 0
    matrix[0, 1:] = 1  # every item but padding has history
    return matrix


def content_kernel(seed, items=12):
    features = np.random.default_rng(seed).normal(size=(items, 4))
    return gram({"m": features / np.linalg.norm(features, axis=1, keepdims=True)}, {"m": 1.0})


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.floats(0.0, 1.0), st.floats(0.0, 2.0), st.floats(0.0, 0.5))
def test_warm_gram_is_its_formula_written_slowly(seed, user_power, similarity, content):
    matrix, kernel = interactions(seed), content_kernel(seed)
    activity = [max(row.sum(), 1) for row in matrix]
    raw = [n**-user_power for n in activity]
    scale = matrix.sum() / sum(w * row.sum() for w, row in zip(raw, matrix, strict=True))
    found = warm_gram(csr_matrix(matrix), kernel, WarmSetting(1.0, 0.0, user_power, similarity, content, 0.0))

    def together(i, j):
        return sum(scale * w * row[i] * row[j] for w, row in zip(raw, matrix, strict=True))

    for i in range(12):
        for j in range(12):
            trust = [1 + similarity * kernel[a, b] for a, b in ((i, j), (i, i), (j, j))]
            shrunk = together(i, j) * trust[0] / np.sqrt(trust[1] * trust[2])
            expected = shrunk + content * kernel[i, j] * np.sqrt(together(i, i) * together(j, j))
            assert found[i, j] == pytest.approx(expected, abs=1e-9)
    assert np.linalg.eigvalsh(found).min() > -1e-8


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.floats(1.0, 50.0), st.floats(0.0, 1.0), st.floats(0.0, 0.5))
def test_warm_weights_solve_each_column_by_itself(seed, reg, reg_power, popularity_power):
    """Column i is the ridge regression of item i on all the others, in the inner product that warm_gram gives."""
    matrix, kernel = interactions(seed), content_kernel(seed)
    setting = WarmSetting(reg, reg_power, 0.5, 0.3, 0.1, popularity_power)
    found = warm_weights(csr_matrix(matrix), kernel, setting)
    inner = warm_gram(csr_matrix(matrix), kernel, setting)
    relative = np.maximum(matrix.sum(0), 1) / matrix.sum(0)[1:].mean()
    for i in range(1, 12):
        others = [j for j in range(12) if j != i]
        penalty = np.diag(reg * relative[others] ** reg_power)
        column = np.linalg.solve(inner[np.ix_(others, others)] + penalty, inner[others, i])
        np.testing.assert_allclose(found[others, i], column / relative[i] ** popularity_power, atol=1e-8)
        assert found[i, i] == 0


def test_without_extras_it_is_recboles_ease(planted):
    from recbole_mm.quick_start import Silent, _build, _configuration, request

    config = planted.config(checkpoint_dir="parts")
    parts = _build(_configuration(request("EASE", planted.name, config=config)), Silent())
    histories = parts.train_data._dataset.inter_matrix(form="csr").astype(float)
    n_items = histories.shape[1]
    found = warm_weights(histories, np.zeros((n_items, n_items)), WarmSetting(250.0, 0.0, 0.0, 0.0, 0.0, 0.0))
    seen = histories.getnnz(axis=0) > 0
    np.testing.assert_allclose(found[:, seen], np.asarray(parts.model.item_similarity)[:, seen], atol=1e-5)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.floats(0.01, 10.0))
def test_cold_weights_are_scikit_learns_kernel_ridge(seed, reg):
    matrix = interactions(seed)
    cold = [3, 7]
    matrix[:, cold] = 0
    features = {"m": np.random.default_rng(seed).normal(size=(12, 5))}
    kernel = gaussian_kernel(features, {"m": 0.2})
    found = matrix @ cold_weights(csr_matrix(matrix), kernel, ColdSetting(reg, 0.0, 5))
    warm = np.flatnonzero(matrix.any(0))
    ridge = KernelRidge(alpha=reg, kernel="precomputed").fit(kernel[np.ix_(warm, warm)], matrix[:, warm].T)
    np.testing.assert_allclose(found[:, cold], ridge.predict(kernel[np.ix_(cold, warm)]).T, atol=1e-8)
    assert not found[:, warm].any()


def test_smoothing_regresses_to_low_rank_histories():
    matrix = interactions(3)
    matrix[:, [4, 9]] = 0
    kernel = gaussian_kernel({"m": np.random.default_rng(0).normal(size=(12, 5))}, {"m": 0.2})
    found = matrix @ cold_weights(csr_matrix(matrix), kernel, ColdSetting(0.5, 0.7, 4))
    warm = np.flatnonzero(matrix.any(0))
    u, s, vt = np.linalg.svd(matrix[:, warm], full_matrices=False)
    target = 0.3 * matrix[:, warm] + 0.7 * (u[:, :4] * s[:4]) @ vt[:4]
    ridge = KernelRidge(alpha=0.5, kernel="precomputed").fit(kernel[np.ix_(warm, warm)], target.T)
    np.testing.assert_allclose(found[:, [4, 9]], ridge.predict(kernel[np.ix_([4, 9], warm)]).T, atol=1e-8)


def test_gaussian_kernel_is_its_formula():
    draw = np.random.default_rng(0)
    features, weights = {"a": draw.normal(size=(6, 3)), "b": draw.normal(size=(6, 2))}, {"a": 0.5, "b": 2.0}
    found = gaussian_kernel(features, weights)
    for i in range(6):
        for j in range(6):
            distance = sum(weights[m] * np.sum((features[m][i] - features[m][j]) ** 2) for m in weights)
            assert found[i, j] == pytest.approx(1 + np.exp(-distance))


def test_history_weights_are_powers_of_ratings(planted):
    from recbole_mm.quick_start import Silent, _build, _configuration, request

    config = planted.config(checkpoint_dir="parts")
    parts = _build(_configuration(request("Pop", planted.name, config=config)), Silent())
    dataset = parts.train_data._dataset
    inter = dataset.inter_feat
    found = history_weights(dataset, "rating", 0.5).toarray()
    mean = inter["rating"].numpy().mean()
    for user, item, rating in zip(*(inter[k].tolist() for k in ("user_id", "item_id", "rating")), strict=True):
        assert found[user, item] == pytest.approx((rating / mean) ** 0.5)
    assert (history_weights(dataset, "rating", 0.0).data == 1).all()
    assert (history_weights(dataset, "no_such_field", 0.5).data == 1).all()


def test_modality_weights_fall_back_to_default():
    assert by_modality({"default": 2.0, "text": 0.0}, ("text", "audio")) == {"text": 0.0, "audio": 2.0}
    with pytest.raises(ConfigError, match="'audio'"):
        by_modality({"text": 1.0}, ("text", "audio"))


def test_scores_of_a_user_equal_those_of_their_history(planted):
    from contract import build
    from recbole.data.interaction import Interaction

    parts = build("MMFusion", planted, {"engine": "content", "rating_power": 0.0})
    parts.model.eval()
    matrix = parts.train_data._dataset.inter_matrix(form="csr")
    users = torch.tensor([2, 11])
    watched = [torch.from_numpy(matrix[u].indices.astype(np.int64)) for u in users.tolist()]
    with torch.no_grad():
        known = parts.model.full_sort_predict(Interaction({"user_id": users}))
        torch.testing.assert_close(parts.model.score_histories(watched), known, rtol=1e-4, atol=1e-4)
