"""How near a new person's list comes to that of a trained user with the same history.

    python benchmarks/new_people.py RUN [RUN ...]

For every user of each run: the top 20 by the trained vector, and by the history alone as somebody new would give it
(ratings taken as in training). `left out` is measured on users whom the regression was not fitted on, see
recbole_mm/recommend/fold_in.py.
"""

import sys

import numpy as np

from recbole_mm.recommend import Recommender

K = 20


def overlap(recommender: Recommender) -> tuple[float, float]:
    """Mean share of the top 20 in common over all users, and the share of users whose lists are equal."""
    shared = []
    tokens = recommender.films.catalogue.tokens
    scale = recommender.scale
    for user, number in recommender.user_ids.items():
        history = recommender.histories.of(number)
        if not len(history.items):
            continue
        power = scale.power or 1.0
        ratings = [_rating(float(w), scale.mean, power, scale.low, scale.high) for w in history.weights]
        names = [f"id:{tokens[i]}" for i in history.items]
        watched = dict(zip(names, ratings if scale.power else [None] * len(names), strict=True))
        seen = [f"id:{tokens[i]}" for i in recommender.seen.of(number).items]
        new = recommender.recommend(watched=watched, exclude=seen, low_ratings="as_trained", k=K)
        own = recommender.recommend(user=user, k=K)
        shared.append(len({r.film.item for r in new} & {r.film.item for r in own}) / len(own))
    return float(np.mean(shared)), float(np.mean(np.array(shared) == 1.0))


def _rating(weight: float, mean: float, power: float, low: float, high: float) -> float:
    """The rating whose history weight it is."""
    return float(np.clip(weight ** (1 / power) * mean, low, high))


def main() -> None:
    """Print a line a run."""
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    print("| run | model | overlap of the top 20 | equal lists | left out |\n|---|---|---|---|---|")
    for run in sys.argv[1:]:
        recommender = Recommender.load(run)
        mean, equal = overlap(recommender)
        left_out = recommender.store.manifest.fold_in_overlap
        shown = "no vector to fold in" if left_out is None else f"{left_out:.3f}"
        print(f"| {run} | {recommender.store.manifest.model} | {mean:.3f} | {equal:.1%} | {shown} |", flush=True)


if __name__ == "__main__":
    main()
