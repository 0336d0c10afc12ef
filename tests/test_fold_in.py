"""Somebody new gets the list of the trained user who watched the same films: on MovieLens-100K, as it ships."""

import numpy as np
import pytest

from recbole_mm.quick_start import run
from recbole_mm.recommend import Recommender

K = 20
ASKED = 5  # every fifth user


def told(recommender: Recommender, number: int) -> dict[str, float | None]:
    """A user's history as they would tell it: titles' ids with the ratings whose weights it has."""
    history, scale = recommender.histories.of(number), recommender.scale
    ratings = [None if not scale.power else scale.mean * float(w) ** (1 / scale.power) for w in history.weights]
    clipped = [None if r is None else min(max(r, scale.low), scale.high) for r in ratings]  # rounding of float32
    return dict(zip(ids(recommender, history.items), clipped, strict=True))


def ids(recommender: Recommender, items) -> list[str]:
    return [f"id:{recommender.films.catalogue.tokens[i]}" for i in items]


@pytest.mark.parametrize(
    ("model", "over", "at_least"),
    [
        ("MMFusion", {"engine": "content", "epochs": 3}, 1.0),
        ("MMFusion", {"engine": "hybrid", "epochs": 3}, 0.8),
        ("BPR", {"epochs": 20}, 0.8),
        ("VBPR", {"epochs": 12}, 0.8),
    ],
)
def test_a_new_person_gets_nearly_the_list_of_a_user_with_the_same_history(model, over, at_least):
    run(model, "imdb", config=over, run_dir="run")
    recommender = Recommender.load("run")
    popular = np.argsort(-recommender.popularity, kind="stable")
    shared, shared_by_popular, shared_by_chance = [], [], []
    for user, number in list(recommender.user_ids.items())[::ASKED]:
        seen = recommender.seen.of(number).items
        watched = told(recommender, number)
        exclude = ids(recommender, seen)
        new = recommender.recommend(watched=watched, exclude=exclude, low_ratings="as_trained", k=K)
        own = {r.film.item for r in recommender.recommend(user=user, k=K)}
        unseen = [i for i in popular.tolist() if i and i not in set(seen.tolist())]
        shared.append(len({r.film.item for r in new} & own) / K)
        shared_by_popular.append(len({recommender.films.catalogue.tokens[i] for i in unseen[:K]} & own) / K)
        shared_by_chance.append(K / len(unseen))
    assert np.mean(shared) >= at_least
    # what says nothing about a person comes nowhere near
    assert np.mean(shared_by_popular) < np.mean(shared) - 0.2
    assert np.mean(shared_by_chance) < 0.05
