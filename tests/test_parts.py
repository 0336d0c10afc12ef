"""Fusion, matching, history pooling and losses against their equations written slowly."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from recbole_mm.model import losses
from recbole_mm.model.fusion import Fusion, standardise
from recbole_mm.model.history import AttentionPooling, UserHistory, histories_of
from recbole_mm.model.matching import Matching

HOWS = ["concat", "mean", "gated", "attention"]


def fused(how, vectors, mask, size=8):
    torch.manual_seed(0)
    module = Fusion({n: v.shape[1] for n, v in vectors.items()}, size, how=how, n_heads=2, dropout=0.3).eval()
    return module, module(vectors, mask)


@pytest.fixture
def inputs():
    torch.manual_seed(1)
    vectors = {"text": torch.randn(6, 5), "image": torch.randn(6, 3), "audio": torch.randn(6, 4)}
    mask = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 1, 0], [0, 0, 0], [1, 1, 0], [0, 0, 1]], dtype=torch.bool)
    return vectors, mask


@pytest.mark.parametrize("how", HOWS)
def test_fusion_does_not_hear_missing_vectors(how, inputs):
    vectors, mask = inputs
    module, expected = fused(how, vectors, mask)
    loud = {n: torch.where(mask[:, [m]], v, 1e6) for m, (n, v) in enumerate(vectors.items())}
    torch.testing.assert_close(module(loud, mask), expected, rtol=0, atol=0)
    assert torch.isfinite(expected).all()


@pytest.mark.parametrize("how", HOWS)
def test_fusion_hears_every_modality_present(how, inputs):
    vectors, mask = inputs
    module, before = fused(how, vectors, mask)
    for m, name in enumerate(vectors):
        after = module({**vectors, name: vectors[name] + 1.0}, mask)
        changed = ~torch.isclose(before, after).all(1)
        assert changed.tolist() == mask[:, m].tolist()


def test_mean_and_gated_fusion_are_their_formulas(inputs):
    vectors, mask = inputs
    mean, found_mean = fused("mean", vectors, mask)
    gated, found_gated = fused("gated", vectors, mask)
    for row in range(6):
        present = [n for m, n in enumerate(vectors) if mask[row, m]]
        if not present:
            assert not found_mean[row].any()
            assert not found_gated[row].any()
            continue
        tokens = [mean.projections[n](vectors[n][row]) for n in present]
        torch.testing.assert_close(found_mean[row], torch.stack(tokens).mean(0))
        tokens = [gated.projections[n](vectors[n][row]) for n in present]
        weight = torch.softmax(torch.cat([gated.gate(t) for t in tokens]), 0)
        torch.testing.assert_close(found_gated[row], sum(w * t for w, t in zip(weight, tokens, strict=True)))


def test_standardise_centres_over_present_rows_only():
    vectors = torch.tensor([[9.0, 9.0], [1.0, 2.0], [3.0, 6.0], [7.0, 7.0]])
    found = standardise(vectors, torch.tensor([False, True, True, False]))
    expected = F.normalize(torch.tensor([[-1.0, -2.0], [1.0, 2.0]]), dim=1)
    torch.testing.assert_close(found[1:3], expected)
    assert not found[[0, 3]].any()


@pytest.mark.parametrize("how", ["dot", "cosine", "mlp"])
def test_matching_pairs_equal_all(how):
    torch.manual_seed(0)
    module = Matching(6, how=how, temperature=0.5, hidden_size=4)
    users, items = torch.randn(5, 6), torch.randn(7, 6)
    table = module.all(users, items)
    for u in range(5):
        for i in range(7):
            torch.testing.assert_close(module.pairs(users[[u]], items[[i]])[0], table[u, i])
    if how == "cosine":
        assert table.abs().max() <= 1 / 0.5 + 1e-6
        torch.testing.assert_close(table[0, 0], F.cosine_similarity(users[0], items[0], dim=0) / 0.5)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.integers(1, 9), max_size=6, unique=True), min_size=1, max_size=5), st.integers(0, 99))
def test_attention_pooling_is_a_softmax_over_the_history(lists, seed):
    torch.manual_seed(seed)
    pool, table = AttentionPooling(8, 2), torch.randn(10, 8)
    found = pool(table, histories_of([torch.tensor(items, dtype=torch.long) for items in lists]))
    for row, items in enumerate(lists):
        if not items:
            assert not found[row].any()
            continue
        vectors = table[items]
        logit = 3 * torch.tanh(pool.query(torch.tanh(pool.hidden(vectors))))
        weight = torch.softmax(logit, dim=0)
        heads = [(weight[:, [h]] * vectors[:, 4 * h : 4 * h + 4]).sum(0) for h in range(2)]
        torch.testing.assert_close(found[row], torch.cat(heads), rtol=1e-4, atol=1e-5)


def test_user_history_reads_ragged_rows_and_drops_entries():
    matrix = csr_matrix(np.array([[0, 0, 0, 0], [0, 1, 0, 1], [0, 0, 0, 0], [0, 1, 1, 1]]))
    histories = UserHistory(matrix).of(torch.tensor([3, 2, 1, 3]))
    assert histories.items.tolist() == [1, 2, 3, 1, 3, 1, 2, 3]
    assert histories.rows.tolist() == [0, 0, 0, 2, 2, 3, 3, 3]
    kept = histories.drop(torch.tensor([1, 0, 1, 0, 0, 0, 0, 1], dtype=torch.bool))
    assert kept.items.tolist() == [1, 3, 3]
    assert kept.rows.tolist() == [0, 0, 3]


def test_losses_are_their_formulas():
    torch.manual_seed(0)
    positive, negative, label = torch.randn(6), torch.randn(6), torch.tensor([1.0, 0, 1, 0, 0, 1])
    rows = list(zip(positive.tolist(), negative.tolist(), strict=True))
    expected = sum(-math.log(1 / (1 + math.exp(-(p - n)))) for p, n in rows) / 6
    assert losses.bpr(positive, negative).item() == pytest.approx(expected, rel=1e-5)
    expected = sum(max(0.0, 0.7 - p + n) for p, n in rows) / 6
    assert losses.triplet(positive, negative, 0.7).item() == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(losses.bce(positive, label), F.binary_cross_entropy(torch.sigmoid(positive), label))
    logits, row, column = torch.randn(3, 5), torch.tensor([0, 2, 2, 1]), torch.tensor([4, 0, 3, 1])
    expected = F.cross_entropy(logits[row], column)
    torch.testing.assert_close(losses.cross_entropy(logits, row, column), expected)
    weight = torch.tensor([1.0, 0.0, 0.0, 1.0])
    expected = F.cross_entropy(logits[row[[0, 3]]], column[[0, 3]])
    torch.testing.assert_close(losses.cross_entropy(logits, row, column, weight), expected)
    assert losses.cross_entropy(logits, row, column, torch.zeros(4)).item() == 0
