"""Models side by side: one split per seed shared by all, intervals, paired tests, seconds, memory."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from recbole_mm.catalogue import find_model
from recbole_mm.data import prepare_files
from recbole_mm.errors import CheckpointError, ConfigError, DataError, RecBoleMMError
from recbole_mm.evaluation.significance import Interval, holm, mean_interval, paired_test
from recbole_mm.files import replacing, write_text
from recbole_mm.quick_start import request
from recbole_mm.run_directory import CONFIG, PER_USER, RESULT, read_result

FIRST_SEED = 2020
BASENAME = "comparison"


@dataclass(frozen=True)
class Row:
    """One model over all seeds."""

    model: str
    metrics: dict[str, Interval]
    compared_with: str
    difference: Interval
    p_value: float  # of the paired test against the best other model, after Holm's correction
    train_s: float
    eval_s: float
    peak_rss_mb: float


@dataclass(frozen=True)
class Comparison:
    """All models, best first."""

    dataset: str
    metric: str
    seeds: tuple[int, ...]
    rows: tuple[Row, ...]
    directory: Path


class Progress(Protocol):
    """Hears which run begins and how it ended."""

    def run_begins(self, model: str, seed: int, number: int, total: int) -> None:
        """A run begins."""

    def run_ends(self, model: str, seed: int, result: Mapping[str, Any], reused: bool) -> None:
        """A run has ended."""


def compare(
    models: Sequence[str],
    dataset: str,
    *,
    seeds: int | Sequence[int] = 5,
    metric: str | None = None,
    config_files: Sequence[str | Path] = (),
    config: Mapping[str, str] | None = None,
    directory: str | Path | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Run every model with every seed in a process of its own, and test the differences over users.

    Args:
        models: names as :func:`recbole_mm.run` takes them.
        dataset: name of the data set.
        seeds: how many, from 2020 on, or which.
        metric: the metric that is tested; the validation metric by default.
        config_files: YAML files for all models.
        config: parameters for all models, as text of the command line.
        directory: where to write; finished runs in it are taken over, so that a stopped comparison goes on.
        progress: hears how it goes.

    Raises:
        RecBoleMMError: fewer than two models, a run that failed, or runs with different splits.
    """
    chosen = tuple(range(FIRST_SEED, FIRST_SEED + seeds)) if isinstance(seeds, int) else tuple(seeds)
    if len(set(models)) != len(models) or len(models) < 2:
        raise ConfigError(f"models={','.join(models)}; expected at least two different ones")
    if not chosen or len(set(chosen)) != len(chosen):
        raise ConfigError(f"seeds={seeds}; expected at least one, each once")
    for model in models:
        find_model(model)
    asked = request(models[0], dataset, config_files, config)
    prepare_files(dataset, asked.data_path)  # once, before several processes want it
    where = Path(directory) if directory else default_directory(dataset)
    results: dict[str, dict[int, Path]] = {model: {} for model in models}
    number = 0
    for seed in chosen:
        for model in models:
            number += 1
            if progress:
                progress.run_begins(model, seed, number, len(models) * len(chosen))
            run_dir = where / "runs" / model.replace(":", "_") / str(seed)
            reused = (run_dir / RESULT).is_file()
            if not reused:
                _run(model, dataset, seed, run_dir, asked.config_files, config or {})
            results[model][seed] = run_dir
            if progress:
                progress.run_ends(model, seed, read_result(run_dir), reused)
        _check_split({model: results[model][seed] for model in models}, seed)
    comparison = summarise(results, dataset, metric, where)
    _write(comparison)
    return comparison


def default_directory(dataset: str) -> Path:
    """Where a comparison that starts now is written."""
    return Path("comparisons") / dataset / datetime.now().strftime("%Y%m%d-%H%M%S")


def _run(
    model: str, dataset: str, seed: int, run_dir: Path, files: Sequence[Path], parameters: Mapping[str, str]
) -> None:
    """In a process of its own: peak memory is a process's, and one run's leftovers are not another's."""
    words = [f"--model={model}", f"--dataset={dataset}", f"--seed={seed}", f"--run_dir={run_dir}"]
    words += [f"--config_files={' '.join(map(str, files))}"] if files else []
    words += [f"--{key}={value}" for key, value in parameters.items()]
    if (run_dir / CONFIG).is_file():
        words = [f"--resume={run_dir}"]  # an earlier comparison was stopped in this run
    done = subprocess.run([sys.executable, "-m", "recbole_mm", *words], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return
    if done.returncode < 0:
        raise RecBoleMMError(f"{model}, seed {seed}: ended by signal {-done.returncode}; see {run_dir}/log.txt")
    last = (done.stderr.strip().splitlines() or ["no message"])[-1].removeprefix("error: ")
    raise RecBoleMMError(f"{model}, seed {seed}: {last}")


def _check_split(runs: Mapping[str, Path], seed: int) -> None:
    splits = {model: read_result(path)["split"] for model, path in runs.items()}
    if len(set(splits.values())) > 1:
        raise DataError(
            f"seed {seed}: the models saw different splits ({', '.join(f'{m}: {s}' for m, s in splits.items())}); "
            "expected one: give all of them the same eval_args and load_col in a config file"
        )


def summarise(
    results: Mapping[str, Mapping[int, Path]], dataset: str, metric: str | None, directory: Path
) -> Comparison:
    """Intervals and paired tests over users; a user's value is the mean over the seeds that test them."""
    seeds = tuple(next(iter(results.values())))
    loaded = {model: [read_result(path) for path in runs.values()] for model, runs in results.items()}
    users = {model: _per_user(runs.values()) for model, runs in results.items()}
    names = list(next(iter(loaded.values()))[0]["test"])
    tested = (metric or next(iter(loaded.values()))[0]["valid_metric"]).lower()
    if tested not in names:
        raise ConfigError(f"metric '{tested}' was not evaluated; expected one of {', '.join(names)}")

    def interval(model: str, name: str) -> Interval:
        mean = sum(result["test"][name] for result in loaded[model]) / len(seeds)
        if name not in users[model]:
            return Interval(mean, mean, mean)
        over_users = mean_interval(users[model][name])
        half = (over_users.high - over_users.low) / 2
        return Interval(mean, mean - half, mean + half)

    metrics = {model: {name: interval(model, name) for name in names} for model in results}
    sign = 1 if smaller_is_better(tested) else -1
    order = sorted(results, key=lambda model: sign * metrics[model][tested].mean)
    others = {model: next(other for other in order if other != model) for model in order}
    if any(tested not in users[model] for model in order):
        known = ", ".join(c for c in users[order[0]].columns if all(c in users[model] for model in order))
        raise ConfigError(f"metric '{tested}' has no value by user for a paired test; expected one of {known}")
    pairs = {m: paired_test(*_aligned(users[m][tested], users[others[m]][tested])) for m in order}
    corrected = dict(zip(order, holm([pairs[model].p_value for model in order]), strict=True))
    rows = tuple(
        Row(
            model,
            metrics[model],
            others[model],
            pairs[model].difference,
            corrected[model],
            sum(r["train_s"] for r in loaded[model]) / len(seeds),
            sum(r["eval_s"] for r in loaded[model]) / len(seeds),
            max(r["peak_rss_mb"] for r in loaded[model]),
        )
        for model in order
    )
    return Comparison(dataset, tested, seeds, rows, directory)


def smaller_is_better(metric: str) -> bool:
    """Whether a lower value of a metric, such as ``log_loss`` or ``ndcg@10``, is the better one."""
    from recbole.evaluator.register import smaller_metrics

    return metric.partition("@")[0] in {name.lower() for name in smaller_metrics}


def _per_user(runs: Any) -> pd.DataFrame:
    frames = []
    for path in runs:
        try:
            frames.append(pd.read_csv(path / PER_USER, index_col=0, dtype={0: str}))
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{path / PER_USER}: no values by user ({error}); expected a ranking run") from error
    return pd.concat(frames).groupby(level=0).mean()


def _aligned(a: pd.Series, b: pd.Series) -> tuple[pd.Series, pd.Series]:
    if set(a.index) != set(b.index):
        raise DataError("the models were tested on different users; expected the same")
    return a, b.loc[a.index]


def table(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Header and rows as text, for terminal, Markdown and CSV."""
    k = comparison.metric.partition("@")[2]
    have = comparison.rows[0].metrics
    others = [f"{name}@{k}" for name in ("recall", "hit", "precision")] if k else ["accuracy", "macro_f1", "log_loss"]
    shown = dict.fromkeys([comparison.metric, *others])
    names = [name for name in shown if name in have]
    header = ["model", *names, "difference", "to", "p (Holm)", "train s", "eval s", "peak MB"]
    rows = []
    for row in comparison.rows:
        cells = [row.model]
        cells += [f"{row.metrics[n].mean:.4f} ± {_half(row.metrics[n]):.4f}" for n in names]
        cells += [f"{row.difference.mean:+.4f} ± {_half(row.difference):.4f}", row.compared_with]
        cells.append(f"{row.p_value:.0e}" if row.p_value < 0.001 else f"{row.p_value:.3f}")
        cells += [f"{row.train_s:.1f}", f"{row.eval_s:.1f}", f"{row.peak_rss_mb:.0f}"]
        rows.append(cells)
    return header, rows


def _half(interval: Interval) -> float:
    return (interval.high - interval.low) / 2


def describe(comparison: Comparison) -> str:
    """One line on what the table's intervals and tests are."""
    seeds = ", ".join(map(str, comparison.seeds))
    return (
        f"{comparison.dataset}, test, seeds {seeds}, one split a seed for all models. Values are means over seeds, "
        "± half of the 95 % t-interval over users. "
        f"{comparison.metric} is tested by a paired t-test over users (each the mean of its seeds) "
        "against the best other model, p-values corrected by Holm. Seconds are means, memory the maximum."
    )


def _write(comparison: Comparison) -> None:
    header, rows = table(comparison)
    base = comparison.directory / BASENAME
    lines = ["| " + " | ".join(header) + " |", "|---" * len(header) + "|", *("| " + " | ".join(r) + " |" for r in rows)]
    write_text(base.with_suffix(".md"), describe(comparison) + "\n\n" + "\n".join(lines) + "\n")
    flat = []
    for row in comparison.rows:
        record: dict[str, Any] = {"model": row.model}
        for name, value in row.metrics.items():
            record.update({name: value.mean, f"{name}_low": value.low, f"{name}_high": value.high})
        record.update(
            compared_with=row.compared_with, difference=row.difference.mean, difference_low=row.difference.low,
            difference_high=row.difference.high, p_holm=row.p_value, train_s=row.train_s, eval_s=row.eval_s,
            peak_rss_mb=row.peak_rss_mb,
        )  # fmt: skip
        flat.append(record)
    with replacing(base.with_suffix(".csv")) as temporary:
        pd.DataFrame(flat).to_csv(temporary, index=False)
    write_text(base.with_suffix(".json"), json.dumps({"about": describe(comparison), "rows": flat}, indent=2) + "\n")
    _plot(base.with_suffix(".png"), comparison)


def _plot(path: Path, comparison: Comparison) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    rows = comparison.rows[::-1]
    values = [row.metrics[comparison.metric] for row in rows]
    figure, axis = plt.subplots(figsize=(7.5, 1.2 + 0.42 * len(rows)), layout="constrained")
    errors = [[v.mean - v.low for v in values], [v.high - v.mean for v in values]]
    axis.errorbar([v.mean for v in values], range(len(rows)), xerr=errors, fmt="o", capsize=3, color="#1f6f8b")
    for height, value in enumerate(values):
        axis.annotate(f"{value.mean:.4f}", (value.mean, height), xytext=(0, 7), textcoords="offset points", ha="center")
    axis.set_yticks(range(len(rows)), [row.model for row in rows])
    axis.set(xlabel=f"test {comparison.metric}, mean and 95 % interval", ylim=(-0.6, len(rows) - 0.3))
    axis.set_title(f"{comparison.dataset}, {len(comparison.seeds)} seed{'s' * (len(comparison.seeds) > 1)}")
    axis.grid(axis="x", alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
    plt.close(figure)
