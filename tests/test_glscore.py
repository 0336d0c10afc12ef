"""The GL-score and the user embeddings against hand-computed examples and the equations written slowly."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from labels import slow_embedding, slow_parts, slow_score

from recbole_mm.errors import DataError
from recbole_mm.glscore import USER_SETS, genre_likes, gl_score, score, user_embeddings
from recbole_mm.known_labels import KnownLabels
from recbole_mm.model.gl_vectors import GLVectors

# movies 1..4: drama, drama + comedy, comedy, none
GENRES = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]], dtype=np.float32)


def ids(*values):
    return np.array(values, dtype=np.int64)


def test_by_hand():
    # user 1 likes the drama, is neutral to the drama comedy, dislikes the comedy
    known = KnownLabels([1, 1, 1], [1, 2, 3], [1, 0, -1], 3, 5, leave_out=False)
    users, items = ids(1, 1, 1, 1, 2), ids(1, 2, 3, 4, 1)
    # U^L = (1, 0), U^N = (1, 1), U^D = (0, 1)
    expected = [[0, 1, 1], [1, 2, 1], [1, 1, 0], [0, 0, 0], [0, 0, 0]]
    assert genre_likes(known, GENRES, users, items).tolist() == expected
    # (1 + 1/2) / 2, (1 + 2/2) / 4, (0 + 1/2) / 2; no genre and no label: neither liked nor disliked
    assert gl_score(known, GENRES, users, items).tolist() == [0.75, 0.5, 0.25, 0.5, 0.5]
    assert gl_score(known, GENRES, users, items, undefined=0.01)[3:].tolist() == [0.01, 0.01]


def test_by_hand_leaving_the_own_label_out():
    known = KnownLabels([1, 1, 1], [1, 2, 3], [1, 0, -1], 3, 5)
    # of the drama, only the neutral drama comedy is left; of the drama comedy, one liked and one disliked
    assert gl_score(known, GENRES, ids(1, 1, 1), ids(1, 2, 3)).tolist() == [0.5, 0.5, 0.5]
    likes = genre_likes(known, GENRES, ids(1, 1, 1), ids(1, 2, 3))
    assert likes.tolist() == [[0, 1, 0], [1, 0, 1], [0, 1, 0]]


def test_score_at_the_edges():
    assert score(np.zeros((2, 3))).tolist() == [0.5, 0.5]
    assert score(np.array([0.0, 0.0, 2.0])) == 1.0
    assert score(np.array([2.0, 0.0, 0.0])) == 0.0


@st.composite
def cases(draw):
    n_users, n_items, n_genres = draw(st.integers(2, 5)), draw(st.integers(2, 7)), draw(st.integers(1, 4))
    pairs = list(itertools.product(range(1, n_users), range(1, n_items)))
    rows = draw(st.lists(st.sampled_from(pairs), unique=True, max_size=len(pairs)))
    labels = [draw(st.integers(-1, 1)) for _ in rows]
    genres = np.array([[draw(st.booleans()) for _ in range(n_genres)] for _ in range(n_items)], dtype=np.float32)
    users, items = (np.array([r[side] for r in rows], dtype=np.int64) for side in (0, 1))
    return users, items, labels, n_users, n_items, genres, np.array(pairs, dtype=np.int64)


@settings(max_examples=40, deadline=None)
@given(cases(), st.booleans(), st.sampled_from(list(USER_SETS)), st.booleans())
def test_equals_the_equations_written_slowly(case, leave_out, user_set, weighted):
    users, items, labels, n_users, n_items, genres, pairs = case
    known = KnownLabels(users, items, labels, n_users, n_items, leave_out=leave_out)
    likes = genre_likes(known, genres, pairs[:, 0], pairs[:, 1])
    np.testing.assert_allclose(likes, [slow_parts(known, genres, u, i) for u, i in pairs])
    scores = gl_score(known, genres, pairs[:, 0], pairs[:, 1])
    np.testing.assert_allclose(scores, [slow_score(known, genres, u, i) for u, i in pairs])
    vectors = np.random.default_rng(0).normal(size=(n_items, 3)).astype(np.float32)
    got = user_embeddings(known, genres, vectors, *pairs.T, user_set=user_set, weighted=weighted)
    want = [slow_embedding(known, genres, vectors, u, i, USER_SETS[user_set], weighted) for u, i in pairs]
    np.testing.assert_allclose(got, want, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(cases())
def test_a_pair_s_own_label_is_in_none_of_its_inputs(case):
    users, items, labels, n_users, n_items, genres, _ = case
    if not len(users):
        return
    vectors = np.eye(n_items, dtype=np.float32)

    def inputs(own):
        known = KnownLabels(users, items, [own, *labels[1:]], n_users, n_items)
        pair = users[:1], items[:1]
        return np.concatenate(
            [gl_score(known, genres, *pair), user_embeddings(known, genres, vectors, *pair, user_set="L+D+N")[0]]
        )

    np.testing.assert_array_equal(inputs(-1), inputs(1))
    np.testing.assert_array_equal(inputs(0), inputs(1))


def test_bad_labels_are_refused():
    with pytest.raises(DataError, match=r"label 2 in row 2: 1 of 3 labels are outside -1, 0, 1"):
        KnownLabels([1, 1, 2], [1, 2, 3], [1, 2, 0], 3, 5)
    with pytest.raises(DataError, match="labels item 2 twice"):
        KnownLabels([1, 1], [2, 2], [1, 0], 3, 5)


def test_long_sequences_are_thinned_evenly():
    known = KnownLabels(np.ones(100), np.arange(1, 101), np.tile([1, 0], 50), 2, 102)
    pair, at = known.of_users(ids(1), ids(101), limit=10)
    assert pair.tolist() == [0] * 10
    assert known.item[at].tolist() == list(range(1, 101, 10))


@pytest.mark.parametrize("most", [5, 1000])
def test_remembered_vectors_are_the_computed_ones(most, monkeypatch):
    monkeypatch.setattr("recbole_mm.model.gl_vectors._REMEMBERED", most)  # 5: forgets on the way
    draw = np.random.default_rng(3)
    pairs = draw.permutation(9 * 11)[:60]
    known = KnownLabels(pairs // 11, pairs % 11, draw.integers(-1, 2, 60), 9, 11)
    genres = draw.integers(0, 2, (11, 4)).astype(np.float32)
    table = draw.standard_normal((11, 6)).astype(np.float32)
    bank = SimpleNamespace(names=("a",), widths={"a": 6}, vectors=lambda _: torch.from_numpy(table))
    remembered = GLVectors(known, genres, bank, "L+D", weighted=True)
    for _ in range(12):
        users, items = draw.integers(0, 9, 7), draw.integers(0, 11, 7)
        mine, movies = remembered.of(users, items)
        np.testing.assert_array_equal(
            mine["a"].numpy(), user_embeddings(known, genres, table, users, items, user_set="L+D")
        )
        gl = gl_score(known, genres, users, items).astype(np.float32)
        np.testing.assert_allclose(movies["a"].numpy(), table[items] * gl[:, None], rtol=1e-6)


def test_notebooks_scale_multiplies_both_sides_and_their_value_stands_where_nothing_is_known():
    """User 0 likes item 0 of genre 0; of genre 1 nothing is known."""
    known = KnownLabels([0], [0], [1], 1, 2)
    genres, table = np.eye(2, dtype=np.float32), np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
    bank = SimpleNamespace(names=("a",), widths={"a": 2}, vectors=lambda _: torch.from_numpy(table))
    vectors = GLVectors(known, genres, bank, "L", weighted=True, scale=100.0, undefined=0.01)
    mine, movies = vectors.of(ids(0), ids(1))
    np.testing.assert_allclose(movies["a"].numpy(), [[3.0, 4.0]])  # 100 x 0.01
    np.testing.assert_allclose(mine["a"].numpy(), [[100.0, 200.0]])  # item 0 scores 1
    plain = GLVectors(known, genres, bank, "L", weighted=False, scale=100.0)
    np.testing.assert_allclose(plain.of(ids(0), ids(1))[1]["a"].numpy(), [[3.0, 4.0]])
    table[:] = 0
    vectors.forget()
    assert not vectors.of(ids(0), ids(1))[0]["a"].any()


@settings(max_examples=40, deadline=None)
@given(cases(), st.booleans())
def test_exchanged_classes_turn_the_score_round(case, leave_out):
    """With like and dislike exchanged it is (d + n / 2) / (l + n + d), as in one published notebook."""
    users, items, labels, n_users, n_items, genres, pairs = case
    asked = pairs[:, 0], pairs[:, 1]
    straight, turned = (
        gl_score(KnownLabels(users, items, labels, n_users, n_items, leave_out=leave_out, exchanged=e), genres, *asked)
        for e in (False, True)
    )
    np.testing.assert_allclose(turned, 1 - straight)
