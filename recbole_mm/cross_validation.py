"""Folds of a classifier's run, as runs of their own, and their means."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recbole_mm import run_directory
from recbole_mm.data.protocol import ProtocolConfig
from recbole_mm.errors import CheckpointError
from recbole_mm.evaluation.significance import mean_interval
from recbole_mm.files import replacing
from recbole_mm.known_labels import CLASSES
from recbole_mm.metrics import confusion_matrix
from recbole_mm.reporting import plot_confusion

PREDICTIONS, CONFUSION = "predictions.csv", "confusion.png"
_PROBABILITIES = [f"p_{name}" for name in CLASSES]


def wants_folds(config: Any) -> bool:
    """Whether a run is one over all folds: a classifier's, by labels, without a ``fold`` of its own."""
    return classifies_labels(config) and config["fold"] is None


def classifies_labels(config: Any) -> bool:
    """Whether a run is a classifier's that is evaluated by labels, not as a ranking."""
    labelled = "full" not in config["eval_args"]["mode"].values()
    return bool(getattr(config.model_class, "classifies", False)) and labelled


def run_folds(
    where: Path, setting: ProtocolConfig, run_fold: Callable[[int, Path], dict[str, Any]], stage: Callable[[str], None]
) -> dict[str, Any]:
    """Run every fold that is not finished, and write the result of all of them.

    Args:
        where: the run's directory; a fold's is ``fold<k>`` in it.
        setting: the protocol.
        run_fold: runs, or resumes, a fold in its directory.
        stage: hears which fold it is.
    """
    start, results = time.perf_counter(), []
    for fold in range(1, setting.folds + 1):
        stage(f"fold {fold} of {setting.folds}")
        results.append(run_fold(fold, where / f"fold{fold}"))
    result = summarise(results, [read_predictions(where / f"fold{k + 1}") for k in range(len(results))])
    result["wall_s"] = round(time.perf_counter() - start, 3)
    title = f"{result['model']} on {result['dataset']}, {setting.protocol}{', LEAKY' * result['leaky']}"
    plot_confusion(where / CONFUSION, result["confusion_matrix"], CLASSES, title=title)
    _write_per_user(where / run_directory.PER_USER, where)
    run_directory.write_result(where, result)
    return {**result, "run_dir": str(where)}


def _write_per_user(path: Path, where: Path) -> None:
    """Each user's accuracy and log loss over all folds: what a comparison's paired tests need."""
    table = all_predictions(where)
    probabilities, classes = table[_PROBABILITIES].to_numpy(), table["label"].to_numpy(np.int64) + 1
    seen = np.clip(probabilities[np.arange(len(classes)), classes], 1e-15, None)
    values = pd.DataFrame(
        {"user": table["user"], "accuracy": probabilities.argmax(1) == classes, "log_loss": -np.log(seen)}
    )
    with replacing(path) as temporary:
        values.groupby("user").mean().round(6).to_csv(temporary)


def summarise(results: Sequence[Mapping[str, Any]], predictions: Sequence[pd.DataFrame]) -> dict[str, Any]:
    """Means over folds, their 95 % t-intervals, the folds themselves, and the confusion matrix of all of them."""
    first = results[0]
    means = {
        part: {name: float(np.mean([r[part][name] for r in results])) for name in first[part]}
        for part in ("valid", "test")
    }
    intervals = {name: mean_interval([r["test"][name] for r in results]) for name in first["test"]}
    shared = (
        "model",
        "dataset",
        "seed",
        "valid_metric",
        "device",
        "users",
        "items",
        "interactions",
        "versions",
        "features",
    )
    kept = ("valid", "test", "best_epoch", "epochs", "train_s", "eval_s", "wall_s", "split", "run_dir")
    counts = sum((_confusion(p) for p in predictions), np.zeros((3, 3), np.int64))
    return {
        **{key: first[key] for key in shared},
        "protocol": first["protocol"],
        "leaky": first["leaky"],
        "valid": means["valid"],
        "test": means["test"],
        "intervals": {name: [i.low, i.high] for name, i in intervals.items()},
        "folds": [{key: result[key] for key in kept} for result in results],
        "confusion_matrix": counts.tolist(),
        "parameters": first["parameters"],
        "epochs": sum(r["epochs"] for r in results),
        "best_epoch": None,
        "train_s": round(sum(r["train_s"] for r in results), 3),
        "eval_s": round(sum(r["eval_s"] for r in results), 3),
        "peak_rss_mb": max(r["peak_rss_mb"] for r in results),
        "split": run_directory.digest(*(r["split"] for r in results)),
    }


def _confusion(predictions: pd.DataFrame) -> Any:
    return confusion_matrix(
        predictions["label"].to_numpy(np.int64) + 1, predictions[_PROBABILITIES].to_numpy().argmax(1)
    )


def write_predictions(path: Path, parts: Any) -> None:
    """``predictions.csv`` of a fold: user, item, label, probability of each class; test labels in the part's order."""
    dataset, inter = parts.dataset, parts.test_data._dataset.inter_feat
    table = pd.DataFrame(
        {
            "user": dataset.id2token(dataset.uid_field, inter[dataset.uid_field].numpy()),
            "item": dataset.id2token(dataset.iid_field, inter[dataset.iid_field].numpy()),
            "label": inter[dataset.label_field].numpy().astype(int),
        }
    )
    for name, column in zip(_PROBABILITIES, parts.trainer.evaluator.scores.T, strict=True):
        table[name] = column.round(6)
    with replacing(path / PREDICTIONS) as temporary:
        table.to_csv(temporary, index=False)


def read_predictions(path: Path) -> pd.DataFrame:
    """Read a fold's predictions.

    Raises:
        CheckpointError: there are none.
    """
    try:
        return pd.read_csv(path / PREDICTIONS, dtype={"user": str, "item": str})
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path / PREDICTIONS}: no readable predictions ({error}); expected a fold's") from error


def all_predictions(run_dir: Path) -> pd.DataFrame:
    """Predictions of all folds of a run, sorted by user and item, with their fold."""
    folds = sorted(run_dir.glob("fold*"))
    if not folds:
        raise CheckpointError(f"{run_dir}: no folds; expected the directory of a run over folds")
    frames = [read_predictions(folder).assign(fold=folder.name) for folder in folds]
    return pd.concat(frames).sort_values(["user", "item"], kind="stable").reset_index(drop=True)
