"""The bars on real Flickscore: the classifier against boosted trees on the same folds, and what each modality is worth.

usage: flickscore.py [--data_path dataset] [--out runs/flickscore_bars] [--seed 2020]
       flickscore.py --ablation experiments/flickscore_ablation
Runs both over five honest folds (finished runs in --out are taken over), prints their means, the paired tests, and the
drop when one modality's vectors, or all, are shuffled among the movies that have one. With --ablation, instead: the
rows of a finished 'recbole-mm tables flickscore_ablation' against the first, by the same paired tests.
"""

import argparse
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recbole_mm.cross_validation import all_predictions
from recbole_mm.evaluation.knock_out import shuffled_modalities
from recbole_mm.evaluation.significance import Interval, LabelComparison, compare_labels, mean_interval
from recbole_mm.experiment import read_experiment, slug
from recbole_mm.quick_start import load, resume, run
from recbole_mm.run_directory import CONFIG

MODELS = ("GLScoreClassifier", "BoostedTrees", "SimpleClassifier", "UserClassMean", "ItemClassMean", "MajorityClass")


def predictions_of(run: Path) -> tuple[pd.DataFrame, NDArray[np.int64]]:
    """Test labels of all folds of a run, and the classes that it gives them."""
    table = all_predictions(run)
    return table, table[["p_dislike", "p_neutral", "p_like"]].to_numpy().argmax(1)


def paired(first: Path, second: Path) -> LabelComparison:
    """Two runs on the same test labels."""
    (one, guesses), (other, others) = predictions_of(first), predictions_of(second)
    assert (one[["user", "item", "label", "fold"]] == other[["user", "item", "label", "fold"]]).all().all()
    return compare_labels(one["label"].to_numpy() + 1, guesses, others, one["user"])


def ablation(folder: Path) -> None:
    """What each row loses against the first, by table."""
    experiment = read_experiment("flickscore_ablation")
    first, *rows = experiment.rows
    for table, row in product(experiment.tables, rows):
        runs = [folder.joinpath(*map(slug, (table, name, "result")), str(experiment.seeds[0])) for name in (row, first)]
        found = paired(*runs)
        print(
            f"{table}, {row}: accuracy {shown(found.accuracy)}, p = {found.p_accuracy:.4f}; "
            f"macro-F1 {shown(found.macro_f1)}, p = {found.p_macro_f1:.4f}",
            flush=True,
        )


def shown(interval: Interval) -> str:
    """A difference and its interval."""
    return f"{interval.mean:+.4f} ({interval.low:+.4f} to {interval.high:+.4f})"


def main() -> None:
    """Print everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_path", default="dataset")
    parser.add_argument("--out", default="runs/flickscore_bars", type=Path)
    parser.add_argument("--seed", default=2020, type=int)
    parser.add_argument("--ablation", type=Path)
    given = parser.parse_args()
    if given.ablation:
        ablation(given.ablation)
        return
    config = {"data_path": given.data_path, "seed": given.seed}
    for model in MODELS:
        where = given.out / model
        result = resume(where) if (where / CONFIG).is_file() else run(model, "flickscore", config=config, run_dir=where)
        test, by_fold = result["test"], [fold["test"]["accuracy"] for fold in result["folds"]]
        print(
            f"{model:18} accuracy {test['accuracy']:.4f} macro-F1 {test['macro_f1']:.4f} "
            f"log loss {test['log_loss']:.4f} (accuracy by fold {' '.join(f'{a:.3f}' for a in by_fold)}; "
            f"{result['wall_s'] / len(by_fold):.0f} s a fold)",
            flush=True,
        )
    test = paired(*(given.out / model for model in MODELS[:2]))
    for name, interval, p in (
        ("accuracy", test.accuracy, test.p_accuracy),
        ("macro-F1", test.macro_f1, test.p_macro_f1),
    ):
        print(f"{name}: {shown(interval)}, p = {p:.4f} (bootstrap over users)")
    print(f"McNemar over labels: p = {test.p_mcnemar:.2e}")
    drops: dict[str, list[tuple[float, float]]] = {}
    for fold in sorted((given.out / MODELS[0]).glob("fold*")):
        for name, (whole, shuffled) in shuffled_modalities(load(fold), seed=given.seed).items():
            drops.setdefault(name, []).append(
                (whole["accuracy"] - shuffled["accuracy"], whole["macro_f1"] - shuffled["macro_f1"])
            )
    for name, values in drops.items():
        said = []
        for metric, lost in zip(("accuracy", "macro-F1"), zip(*values, strict=True), strict=True):
            said.append(f"{metric} {shown(mean_interval([-drop for drop in lost]))}")
        print(f"{name} shuffled: {', '.join(said)}; t-interval over folds")


if __name__ == "__main__":
    main()
