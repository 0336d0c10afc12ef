"""The bars on real Flickscore: the classifier against boosted trees on the same folds, and what each modality is worth.

usage: flickscore.py [--data_path dataset] [--out runs/flickscore_bars] [--seed 2020]
Runs both over five honest folds (finished runs in --out are taken over), prints their means, the paired tests, and the
drop when one modality's vectors are shuffled among the movies that have one.
"""

import argparse
from pathlib import Path

from recbole_mm.cross_validation import all_predictions
from recbole_mm.evaluation.knock_out import shuffled_modalities
from recbole_mm.evaluation.significance import compare_labels, mean_interval
from recbole_mm.quick_start import load, resume, run
from recbole_mm.run_directory import CONFIG

MODELS = ("GLScoreClassifier", "BoostedTrees", "SimpleClassifier", "UserClassMean", "ItemClassMean", "MajorityClass")


def main() -> None:
    """Print everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_path", default="dataset")
    parser.add_argument("--out", default="runs/flickscore_bars", type=Path)
    parser.add_argument("--seed", default=2020, type=int)
    given = parser.parse_args()
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
    mine, trees = (all_predictions(given.out / model) for model in MODELS[:2])
    assert (mine[["user", "item", "label", "fold"]] == trees[["user", "item", "label", "fold"]]).all().all()
    columns = ["p_dislike", "p_neutral", "p_like"]
    guesses = [table[columns].to_numpy().argmax(1) for table in (mine, trees)]
    test = compare_labels(mine["label"].to_numpy() + 1, *guesses, mine["user"])
    for name, interval, p in (
        ("accuracy", test.accuracy, test.p_accuracy),
        ("macro-F1", test.macro_f1, test.p_macro_f1),
    ):
        span = f"{interval.low:+.4f} to {interval.high:+.4f}"
        print(f"{name}: {interval.mean:+.4f} ({span}), p = {p:.4f} (bootstrap over users)")
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
            drop = mean_interval(lost)
            said.append(f"{metric} {-drop.mean:+.4f} ({-drop.high:+.4f} to {-drop.low:+.4f})")
        print(f"{name} shuffled: {', '.join(said)}; t-interval over folds")


if __name__ == "__main__":
    main()
