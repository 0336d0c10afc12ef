"""Recommending from a run: new people as trained ones, explanations that add up, nothing seen comes back."""

import re

import numpy as np
import pytest
import torch
from contract import classifies
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recbole.data.interaction import Interaction
from variants import VARIANTS

from recbole_mm.catalogue import our_models
from recbole_mm.errors import CheckpointError, ConfigError, RequestError
from recbole_mm.quick_start import load
from recbole_mm.recommend import Recommender
from recbole_mm.recommend.preferences import Wishes
from recbole_mm.recommend.scorer import Laid, Person

PEOPLE = [
    Person(np.array(items, np.int64), np.array(weights, np.float32), user)
    for items, weights, user in (
        ([3, 7, 9], [1.0, -0.5, 2.0], None), ([], [], 4), ([5], [1.0], None), ([], [], None), ([2, 8], [1.0, 1.0], 2),
    )
]  # fmt: skip


@pytest.mark.parametrize("name", ["default", "content", "cosine", "VBPR"])
def test_people_s_vectors_are_the_sums_of_what_they_are_made_of(runs, name):
    scorer = Recommender.load(runs(name)).scorer
    np.testing.assert_allclose(scorer.vectors(PEOPLE), scorer.tastes(Laid.of(PEOPLE)).vectors, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("small", [False, True])
@pytest.mark.parametrize("name", list(VARIANTS))
def test_people_are_scored_together_as_alone(runs, name, small, monkeypatch):
    """Also where the limits of what is done at once are passed."""
    scorer = Recommender.load(runs(name)).scorer
    alone = np.stack([scorer.scores([person])[0] for person in PEOPLE])
    if small:
        monkeypatch.setattr("recbole_mm.recommend.scorer._GATHERED", 2)
        if scorer.parts.items is not None:
            monkeypatch.setattr("recbole_mm.recommend.scorer._UNPACKED", 2 * scorer.parts.items.size)
    np.testing.assert_allclose(scorer.scores(PEOPLE), alone, rtol=1e-4, atol=1e-5)


def test_answers_to_many_are_those_to_one(recommender):
    asked = [
        (Wishes(watched=(("i3", 5.0), ("i7", 1.0))), 5, False),
        (Wishes(watched=(("nonsense", None),)), 5, False),
        (Wishes(user="u5"), 3, True),
        (Wishes(genres=("g1",)), 4, False),
        (Wishes(user="nobody"), 4, False),
        (Wishes(watched=(("i9", None),), lean={"text": 1.0}, diversity=0.5), 4, False),
    ]
    found = recommender.rank(asked)
    for (wishes, k, explain), ranked in zip(asked, found, strict=True):
        if isinstance(ranked, RequestError):
            with pytest.raises(RequestError, match=re.escape(str(ranked))):
                recommender.answer(wishes, k, explain=explain)
            continue
        answer = ranked.in_words(recommender.films, recommender.content.names)
        alone = recommender.answer(wishes, k, explain=explain)
        assert [(r.film, r.rank) for r in answer] == [(r.film, r.rank) for r in alone]
        assert [r.score for r in answer] == pytest.approx([r.score for r in alone], rel=1e-4, abs=1e-5)
        assert all((r.why is not None) == explain for r in answer)
    assert [isinstance(answer, RequestError) for answer in found] == [False, True, False, False, True, False]


def model_scores(run_dir) -> np.ndarray:
    """Scores of all users by the trained model itself, [U, I]."""
    parts = load(run_dir)
    users = range(parts.dataset.user_num)
    with torch.no_grad():
        rows = [parts.model.full_sort_predict(Interaction({"user_id": torch.tensor([u])})).reshape(-1) for u in users]
    return torch.stack(rows).numpy()


def tokens(found) -> list[str]:
    return [r.film.item for r in found]


# -- scores --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", VARIANTS)
def test_arrays_score_as_the_model_does(runs, name):
    recommender, expected = Recommender.load(runs(name)), model_scores(runs(name))
    n_items = len(recommender.films.catalogue.tokens)
    for user in ("u0", "u13", "u71"):
        found = recommender.recommend(user=user, k=10)
        row = expected[recommender.user_ids[user]]
        ids = [recommender.films.ids[t] for t in tokens(found)]
        np.testing.assert_allclose([r.score for r in found], row[ids], rtol=2e-4, atol=2e-5)
        left_out = set(recommender.seen.of(recommender.user_ids[user]).items.tolist()) | {0}
        allowed = np.array([i for i in range(n_items) if i not in left_out])
        np.testing.assert_allclose(np.sort(row[ids])[::-1], np.sort(row[allowed])[::-1][:10], rtol=2e-4, atol=2e-5)


def test_somebody_new_with_a_trained_users_history_gets_the_same_by_content(runs):
    recommender = Recommender.load(runs("content"))
    for user in recommender.user_ids:
        history = recommender.histories.of(recommender.user_ids[user])
        mean, power = recommender.scale.mean, recommender.scale.power
        names = [recommender.films.catalogue.tokens[i] for i in history.items]
        ratings = [float(w ** (1 / power) * mean) for w in history.weights]
        others = [recommender.films.catalogue.tokens[i] for i in recommender.seen.of(recommender.user_ids[user]).items]
        watched = [(t, round(r)) for t, r in zip(names, ratings, strict=True)]
        same = recommender.recommend(watched=watched, exclude=others, low_ratings="as_trained")
        assert tokens(same) == tokens(recommender.recommend(user=user))


@pytest.mark.parametrize("name", ["default", "collaborative", "VBPR", "BPR", "LightGCN", "cosine", "mlp"])
def test_folded_in_people_get_nearly_the_trained_users_list(runs, name):
    """Of 90 films 20 are .25 by chance. Three epochs on 72 users teach little; benchmarks/new_people.py has imdb's."""
    recommender = Recommender.load(runs(name))
    shared = []
    for user in recommender.user_ids:
        seen = [recommender.films.catalogue.tokens[i] for i in recommender.seen.of(recommender.user_ids[user]).items]
        history = list(recommender.history(user))
        new = recommender.recommend(watched=history, exclude=seen, k=20)
        shared.append(len(set(tokens(new)) & set(tokens(recommender.recommend(user=user, k=20)))) / 20)
    assert np.mean(shared) > 0.6


@pytest.mark.parametrize("model", [name for name in our_models() if not classifies(name)])
def test_every_model_of_ours_takes_somebody_new(runs, model):
    recommender = Recommender.load(runs(model, model, {}))
    assert recommender.store.manifest.new_users, f"{model} has no scoring_parts()"
    found = recommender.recommend(watched={"i1": 5, "i2": 1}, k=5, explain=True)
    assert len(found) == 5
    for r in found:
        total = sum(p.contribution for p in r.why.films) + r.why.profile + r.why.popularity
        assert total == pytest.approx(r.score, rel=1e-4, abs=1e-5)


def test_models_that_need_a_trained_user_say_so(runs):
    recommender = Recommender.load(runs("MultiVAE", "MultiVAE", {}))
    assert len(recommender.recommend(user="u1", k=3)) == 3
    with pytest.raises(RequestError, match="MultiVAE cannot score somebody it was not trained on; use"):
        recommender.recommend(watched=["i1"])
    with pytest.raises(RequestError, match="no parts"):
        recommender.explain("i1", user="u1")


# -- wishes --------------------------------------------------------------------------------------------------------

films = st.sampled_from([f"i{n}" for n in range(90)])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    user=st.none() | st.sampled_from(["u1", "u40"]),
    watched=st.dictionaries(films, st.none() | st.floats(1, 5), max_size=8),
    exclude=st.lists(films, max_size=5),
    genres=st.lists(st.sampled_from(["g0", "h1"]), max_size=2),
    only=st.lists(st.sampled_from(["g1", "h0"]), max_size=2),
    diversity=st.sampled_from([0.0, 0.4, 1.0]),
    k=st.integers(1, 90),
)
def test_nothing_seen_or_excluded_comes_back(runs, user, watched, exclude, genres, only, diversity, k):
    recommender = Recommender.load(runs("default"))
    wishes = {"genres": genres, "only_genres": only, "diversity": diversity}
    if user is None and not watched and not genres and not only:
        with pytest.raises(RequestError, match="nothing to go by"):
            recommender.recommend(k=k)
        return
    found = recommender.recommend(user=user, watched=watched, exclude=exclude, k=k, **wishes)
    names = tokens(found)
    seen = set() if user is None else {recommender.films.catalogue.tokens[i] for i in
                                       recommender.seen.of(recommender.user_ids[user]).items}  # fmt: skip
    assert not set(names) & (seen | set(watched) | set(exclude))
    assert len(set(names)) == len(names) <= k
    assert [r.rank for r in found] == list(range(1, len(found) + 1))
    assert all(not only or set(only) & set(r.film.genres) for r in found)
    if not diversity:
        assert [r.score for r in found] == sorted((r.score for r in found), reverse=True)


def test_a_low_rating_counts_against(recommender):
    liked, disliked = (
        {r.film.item: r.score for r in recommender.recommend(watched={"i3": rating}, k=89)} for rating in (5, 1)
    )
    nearest = recommender.similar("i3", 1, by="image")[0].film.item
    assert liked[nearest] > disliked[nearest]
    as_trained = recommender.recommend(watched={"i3": 1}, low_ratings="as_trained", k=89)
    assert {r.film.item: r.score for r in as_trained}[nearest] > disliked[nearest]


def test_genres_lift_and_a_lean_moves_the_list(recommender):
    plain = recommender.recommend(watched=["i3"], k=89)
    lifted = recommender.recommend(watched=["i3"], genres=["G1"], genre_weight=50, k=89)
    last = max(r.rank for r in lifted if "g1" in r.film.genres)
    assert last == sum("g1" in r.film.genres for r in plain)
    leaning = recommender.recommend(watched=["i3"], lean={"image": 50}, k=5)
    near = {s.film.item for s in recommender.similar("i3", 8, by="image")}
    assert len(near & set(tokens(leaning))) >= 4
    assert tokens(leaning) != tokens(plain)[:5]


def test_diversity_spreads_the_list(recommender):
    def likeness(found) -> float:
        ids = np.array([recommender.films.ids[t] for t in tokens(found)])
        return recommender.content.among(ids)[~np.eye(len(ids), dtype=bool)].mean()

    narrow, wide = (recommender.recommend(user="u3", k=8, diversity=d) for d in (0.0, 0.8))
    assert narrow[0].film == wide[0].film
    assert likeness(wide) < likeness(narrow)


def test_everyone_equals_one_by_one(recommender):
    lists = dict(recommender.everyone(7))
    assert list(lists) == list(recommender.user_ids)
    for user, found in lists.items():
        assert found == recommender.recommend(user=user, k=7)


def test_similar_is_the_cosine_of_the_features(recommender):
    features = load(recommender.store.run_dir).dataset.modality("image").features
    vectors = features.vectors - features.vectors.mean(0)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    row = {t: n for n, t in enumerate(features.tokens)}
    for s in recommender.similar("i7", 5, by="image"):
        assert s.similarity == pytest.approx(float(vectors[row["i7"]] @ vectors[row[s.film.item]]), abs=2e-3)
    best = max((t for t in row if t != "i7"), key=lambda t: vectors[row["i7"]] @ vectors[row[t]])
    assert recommender.similar("i7", 1, by="image")[0].film.item == best


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ({}, "nothing to go by"),
        ({"user": "nobody"}, "no user 'nobody'"),
        ({"watched": ["zzzzzz"]}, "no film 'zzzzzz'"),
        ({"watched": {"i1": float("nan")}}, "rating nan is not on the scale; expected 1 to 5"),
        ({"watched": {"i1": 6}}, "expected 1 to 5"),
        ({"user": "u1", "k": 0}, "k=0; expected 1 to the number of films, 90"),
        ({"user": "u1", "k": 10**9}, "expected 1 to the number of films"),
        ({"user": "u1", "genres": ["g11"]}, "no genre 'g11'; did you mean 'g1'"),
        ({"user": "u1", "lean": {"imag": 1}}, "did you mean 'image'"),
        ({"user": "u1", "lean": {"image": float("inf")}}, "expected -100 to 100"),
        ({"user": "u1", "diversity": float("nan")}, "diversity=nan; expected 0 to 1"),
        ({"user": "u1", "exclude": [f"i{n}" for n in range(90)]}, "no film is left"),
        ({"user": "u1", "low_ratings": "maybe"}, "expected 'against' or 'as_trained'"),
    ],
)
def test_questions_that_cannot_be_answered(recommender, question, answer):
    with pytest.raises(RequestError, match=answer.replace("(", r"\(")):
        recommender.recommend(**question)


def test_an_index_answers_as_exact_scoring_does(runs):
    exact, near = Recommender.load(runs("VBPR")), Recommender.load(runs("VBPR"))
    index = near.approximate(recall=1.0)
    assert index.recall == 1.0
    for question in ({"user": "u3"}, {"watched": {"i1": 5, "i2": 1}, "exclude": ["i5", "i6"]}):
        assert tokens(near.recommend(**question, k=8)) == tokens(exact.recommend(**question, k=8))
    again = Recommender.load(runs("VBPR"))
    assert again.approximate(recall=1.0).probed == index.probed
    with pytest.raises(ConfigError, match="does not score by products of vectors alone"):
        Recommender.load(runs("default")).approximate()


# -- the serving folder --------------------------------------------------------------------------------------------


def test_opening_needs_neither_torch_nor_recbole(runs, tmp_path):
    import subprocess
    import sys

    Recommender.load(runs("default"))
    code = (
        "import sys; from recbole_mm.recommend import Recommender; "
        f"Recommender.load({str(runs('default'))!r}).recommend(watched=['i1'], explain=True); "
        "print(sorted({'torch', 'recbole', 'pandas', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_folder_that_was_tampered_with_is_refused_or_made_anew(runs, tmp_path):
    import shutil

    shutil.copytree(runs("default"), tmp_path / "run")
    before = Recommender.load(tmp_path / "run").recommend(user="u1")
    folder = tmp_path / "run" / "serving"

    def refused(path, content: bytes, match: str) -> None:
        whole = path.read_bytes()
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=match):
            Recommender.load(tmp_path / "run")
        path.write_bytes(whole)

    items = folder / "items.npy"
    refused(items, items.read_bytes()[:100], "not a readable array.*remove")
    np.save(tmp_path / "other.npy", np.zeros((3, 2), np.float32))
    refused(items, (tmp_path / "other.npy").read_bytes(), r"\(3, 2\); expected float32")
    np.save(tmp_path / "pickled.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    refused(items, (tmp_path / "pickled.npy").read_bytes(), "not a readable array")
    refused(folder / "catalogue.json", b"{", "not readable")
    refused(folder / "catalogue.json", b'{"tokens": []}', "titles")
    refused(folder / "users.json", b'{"a": 1}', "do not belong together")
    refused(folder / "serving.json", b"[[", "not readable")
    manifest = (folder / "serving.json").read_text()
    (folder / "serving.json").write_text(manifest.replace("recbole_mm.serving.1", "recbole_mm.serving.0"))
    assert Recommender.load(tmp_path / "run").recommend(user="u1") == before  # of another version: made anew
    (tmp_path / "run" / "result.json").unlink()
    with pytest.raises(CheckpointError, match="expected the directory of a finished run"):
        Recommender.load(tmp_path / "run")
