"""Top k: exact by blocks, of one row, diverse, and approximate; each against a slow way."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_mm.errors import ConfigError
from recbole_mm.recommend import top_k as module
from recbole_mm.recommend.ann import VectorIndex
from recbole_mm.recommend.top_k import best, diverse, top_k


@settings(max_examples=60, deadline=None)
@given(
    n_users=st.integers(1, 5), n_items=st.integers(1, 400), k=st.integers(1, 30), seed=st.integers(0, 99),
    biased=st.booleans(),
)  # fmt: skip
def test_blocks_give_the_exact_top_k(n_users, n_items, k, seed, biased):
    draw = np.random.default_rng(seed)
    users, items = draw.normal(size=(n_users, 6)).astype("f4"), draw.normal(size=(n_items, 6)).astype("f4")
    bias = draw.normal(size=n_items).astype("f4") if biased else None
    whole = users @ items.T + (0 if bias is None else bias)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_CELLS", 1)
        for name in ("_LEAST", "_FIRST"):
            patch.setattr(module, name, 16)  # many blocks
        ids, scores = top_k(users, items, k, bias)
    expected = np.sort(whole, axis=1)[:, ::-1][:, :k]
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(np.take_along_axis(whole, ids, axis=1), expected, rtol=1e-5, atol=1e-6)
    assert all(len(set(row)) == len(row) for row in ids.tolist())


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from([-np.inf, 0.0, 0.5, 1.0, 2.0]), min_size=1, max_size=30), st.integers(0, 40))
def test_best_of_one_row_breaks_ties_by_position(scores, k):
    row = np.array(scores, dtype=np.float32)
    order = sorted((i for i in range(len(row)) if row[i] > -np.inf), key=lambda i: (-row[i], i))
    assert best(row, k).tolist() == order[:k]


def test_diverse_is_greedy_marginal_relevance():
    draw = np.random.default_rng(0)
    vectors = draw.normal(size=(12, 4))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    likeness, relevance, d = vectors @ vectors.T, draw.normal(size=12), 0.6
    relative = (relevance - relevance.min()) / np.ptp(relevance)
    chosen: list[int] = []
    while len(chosen) < 5:
        left = [i for i in range(12) if i not in chosen]
        chosen.append(
            max(left, key=lambda i: (1 - d) * relative[i] - d * max((likeness[i, j] for j in chosen), default=0.0))
        )
    assert diverse(relevance, likeness, 5, d).tolist() == chosen
    assert diverse(relevance, likeness, 5, 0.0).tolist() == np.argsort(-relevance)[:5].tolist()


def test_index_states_its_recall():
    draw = np.random.default_rng(0)
    middles = draw.normal(size=(30, 8))
    items = (middles[draw.integers(0, 30, 5000)] + 0.3 * draw.normal(size=(5000, 8))).astype("f4")
    users, bias = items[:100] + 0.1, draw.normal(size=5000).astype("f4")
    index = VectorIndex.build(items, users, bias=bias, recall=0.95)
    ids, scores = index.search(users, 10)
    exact = np.argsort(-(users @ items.T + bias), axis=1)[:, :10]
    found = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(ids, exact, strict=True)])
    assert found == pytest.approx(index.recall)
    assert found >= 0.95
    assert index.probed < index.index.nlist
    np.testing.assert_allclose(scores, np.take_along_axis(users @ items.T + bias, ids, axis=1), rtol=1e-4)
    with pytest.raises(ConfigError, match="score exactly instead"):
        VectorIndex.build(items, users, recall=1.01)
