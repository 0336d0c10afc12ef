"""An experiment: many runs of classifiers laid out as tables, each cell a run over folds; finished cells are kept."""

import json
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from recbole_mm.config import read_yaml
from recbole_mm.errors import ConfigError, RecBoleMMError, nearest
from recbole_mm.evaluation.significance import Interval, mean_interval
from recbole_mm.files import write_text
from recbole_mm.modality import first_problem
from recbole_mm.quick_start import resume, run
from recbole_mm.reporting import plot_intervals
from recbole_mm.resources import shipped
from recbole_mm.run_directory import CONFIG

METRICS = ("accuracy", "macro_f1")


class Experiment(BaseModel):
    """``properties/experiment/<name>.yaml``: every row in every column of every table."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    dataset: str
    seeds: list[int]
    common: dict[str, Any] = {}  # parameters of all cells
    tables: dict[str, dict[str, Any]]  # name -> parameters
    rows: dict[str, dict[str, Any]]  # name -> parameters, `model` among them
    columns: dict[str, dict[str, Any]]  # name -> parameters
    only: dict[str, list[str]] = {}  # row -> the columns it has; all of them where it is not named

    @model_validator(mode="after")
    def _known(self) -> "Experiment":
        names = [(r, self.rows) for r in self.only] + [(c, self.columns) for cs in self.only.values() for c in cs]
        for name, among in names:
            if name not in among:
                raise ValueError(f"only: '{name}' is not one of {', '.join(among)}{nearest(name, among)}")
        return self

    def keys(self) -> list[tuple[str, str, str]]:
        """Table, row and column of every cell."""
        return [k for k in product(self.tables, self.rows, self.columns) if k[2] in self.only.get(k[1], self.columns)]


@dataclass(frozen=True)
class Cell:
    """A cell's metrics over folds and seeds."""

    metrics: dict[str, Interval]
    leaky: bool
    wall_s: float


def experiment_names() -> list[str]:
    """Names of the experiments that can be run."""
    files = shipped("properties/experiment").glob("*.yaml")
    return sorted(f.stem for f in files if {"tables", "rows"} <= read_yaml(f).keys())


def read_experiment(name: str) -> Experiment:
    """Read an experiment.

    Raises:
        ConfigError: there is none of that name, or it is malformed.
    """
    names = experiment_names()
    if name not in names:
        raise ConfigError(f"unknown experiment '{name}'{nearest(name, names)}; expected one of {', '.join(names)}")
    try:
        return Experiment(**read_yaml(shipped(f"properties/experiment/{name}.yaml")))
    except ValidationError as error:
        raise ConfigError(f"properties/experiment/{name}.yaml: {first_problem(error)}") from error


def default_workers() -> int:
    """Runs at a time: the cores this process may use, eight at most; a run takes one well and under 1 GB."""
    return min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def run_experiment(
    experiment: Experiment,
    directory: Path,
    *,
    config: Mapping[str, Any] | None = None,
    workers: int = 1,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[tuple[str, str, str], Cell]:
    """Run every cell that is not finished, and write ``tables.md``, ``tables.json`` and a picture a metric.

    Args:
        experiment: what to run.
        directory: where; a cell's run is in ``<table>/<row>/<column>/<seed>``.
        config: parameters that win over the experiment's.
        workers: runs at a time, each a process of its own; 1: in this process.
        progress: hears one line a cell.
    """
    cells: dict[tuple[str, str, str], Cell] = {}
    keys = experiment.keys()
    with _runner(workers) as start:
        waiting = []
        for key in keys:
            model, parameters = _parameters(experiment, key, config or {})
            folder = directory.joinpath(*(slug(part) for part in key))
            waiting.append([
                start(model, experiment.dataset, {**parameters, "seed": seed}, folder / str(seed))
                for seed in experiment.seeds
            ])  # fmt: skip
        for number, (key, answers) in enumerate(zip(keys, waiting, strict=True), start=1):
            cells[key] = _cell([answer() for answer in answers])
            progress(f"{number} of {len(keys)}: {' / '.join(key)}: {shown(cells[key], 'accuracy')}")
    write_text(directory / "tables.md", markdown(experiment, cells))
    write_text(directory / "tables.json", json.dumps(_flat(cells), indent=2) + "\n")
    for metric in METRICS:
        panels = {
            table: {
                row: {c: cells[table, row, c].metrics[metric] for c in experiment.columns if (table, row, c) in cells}
                for row in experiment.rows
            }
            for table in experiment.tables
        }
        plot_intervals(directory / f"{metric}.png", panels, title=experiment.title, x=metric)
    return cells


def _parameters(
    experiment: Experiment, key: tuple[str, str, str], config: Mapping[str, Any]
) -> tuple[str, dict[str, Any]]:
    """The model of a cell and its parameters; those of tables win over rows', rows' over columns'."""
    table, row, column = key
    layers = (experiment.common, experiment.columns[column], experiment.rows[row], experiment.tables[table])
    parameters = {k: v for layer in layers for k, v in layer.items()} | dict(config)
    return parameters.pop("model"), parameters


Start = Callable[[str, str, dict[str, Any], Path], Callable[[], dict[str, Any]]]


@contextmanager
def _runner(workers: int) -> Iterator[Start]:
    """What starts a run and gives a function that waits for its result; one that fails ends all that have not begun."""
    if workers <= 1:
        yield lambda *run_of: lambda: _run_or_resume(*run_of)
        return
    # spawned, not forked: torch's threads do not survive a fork
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_begin_worker)
    try:
        yield lambda *run_of: pool.submit(_run_or_resume, *run_of).result
    except BrokenProcessPool as error:
        raise RecBoleMMError(
            "a worker was ended from outside, as when memory runs out; lower --workers and repeat the command: "
            "finished cells are kept"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _begin_worker() -> None:
    import torch

    torch.set_num_threads(1)
    # Ctrl-C reaches every process of the terminal: runs can be resumed, so a worker just ends, without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _run_or_resume(model: str, dataset: str, settings: dict[str, Any], where: Path) -> dict[str, Any]:
    if (where / CONFIG).is_file():
        return resume(where)
    return run(model, dataset, config=settings, run_dir=where)


def slug(text: str) -> str:
    """The folder's name of a table, row or column."""
    return "".join(c if c.isalnum() else "-" for c in text.lower())


def _cell(results: list[dict[str, Any]]) -> Cell:
    folds = [fold for result in results for fold in result.get("folds", [result])]  # one, where --fold chooses it
    values = {m: [fold["test"][m] for fold in folds] for m in METRICS}
    intervals = {name: mean_interval(v) for name, v in values.items()}
    return Cell(intervals, any(r["leaky"] for r in results), float(np.sum([r["wall_s"] for r in results])))


def shown(cell: Cell | None, metric: str) -> str:
    """A cell as text: mean, half of its interval, and whether it is leaky; a dash for a cell that there is not."""
    if cell is None:
        return "-"
    interval = cell.metrics[metric]
    spread = f" ± {half:.3f}" if (half := (interval.high - interval.low) / 2) > 0 else ""
    return f"{interval.mean:.3f}{spread}{' leaky' if cell.leaky else ''}"


def markdown(experiment: Experiment, cells: Mapping[tuple[str, str, str], Cell]) -> str:
    """The tables as Markdown, one a table and metric."""
    lines = [f"# {experiment.title}", "", "Means over folds and seeds ± half of the 95 % t-interval."]
    for table, metric in product(experiment.tables, METRICS):
        lines += ["", f"## {table}: {metric}", "", "| | " + " | ".join(experiment.columns) + " |"]
        lines.append("|---" * (len(experiment.columns) + 1) + "|")
        for row in experiment.rows:
            texts = [shown(cells.get((table, row, column)), metric) for column in experiment.columns]
            lines.append(f"| {row} | " + " | ".join(texts) + " |")
    return "\n".join(lines) + "\n"


def _flat(cells: Mapping[tuple[str, str, str], Cell]) -> list[dict[str, Any]]:
    found = []
    for (table, row, column), cell in cells.items():
        record: dict[str, Any] = {
            "table": table,
            "row": row,
            "column": column,
            "leaky": cell.leaky,
            "wall_s": cell.wall_s,
        }
        for name, i in cell.metrics.items():
            record.update({name: i.mean, f"{name}_low": i.low, f"{name}_high": i.high})
        found.append(record)
    return found
