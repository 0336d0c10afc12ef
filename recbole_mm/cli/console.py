"""What a run looks like on a terminal (a progress bar), in a log (plain lines), and at its end (a table)."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

_PLAIN_WIDTH = 150  # of tables that go to a file


class ConsoleReporter:
    """A bar with loss, metric and time left on a terminal; one line an epoch elsewhere."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or make_console()
        self._progress: Progress | None = None
        self._task: Any = None
        self._run_dir: str | None = None
        self._finished = 0
        self._metric = "valid"
        self._patience = 0

    def stage(self, text: str) -> None:
        """Say what is being done."""
        self.console.print(f"[dim]{text} ...[/dim]" if self.console.is_terminal else f"{text} ...")

    def begin(self, config: Any, done: int) -> None:
        """Show where the run is written, and start the bar."""
        self._run_dir, self._finished = config["checkpoint_dir"], done
        self._metric, self._patience = str(config["valid_metric"]).lower(), int(config["stopping_step"])
        self.console.print(f"run directory: {self._run_dir}", highlight=False, soft_wrap=True)
        if done:
            self.console.print(f"resuming after epoch {done}")
        if self.console.is_terminal:
            self._progress = Progress(
                TextColumn("epoch"), MofNCompleteColumn(), BarColumn(), TextColumn("{task.fields[now]}"),
                TimeElapsedColumn(), TextColumn("at most"), TimeRemainingColumn(), TextColumn("left"),
                console=self.console, transient=True,
            )  # fmt: skip
            self._task = self._progress.add_task("train", total=int(config["epochs"]), completed=done, now="")
            self._progress.start()

    def epoch(self, record: Any) -> None:
        """Show an epoch."""
        self._finished = record.epoch + 1
        text = f"loss {record.loss:.4f}"
        if record.valid_score is not None:
            text += f"  {self._metric} {record.valid_score:.4f}"
            text += f"  best {record.best_score:.4f} (epoch {record.best_epoch + 1})"
        if self._progress is not None:
            self._progress.update(self._task, completed=self._finished, now=text)
        else:
            self.console.print(
                f"epoch {self._finished:>3}  {text}  {record.train_s + record.eval_s:.2f} s",
                highlight=False,
                soft_wrap=True,
            )

    def end(self) -> None:
        """Take the bar away."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def interrupted(self) -> str:
        """What to say after Ctrl-C."""
        if self._run_dir is None or not self._finished:
            return "interrupted before the first epoch was finished"
        return f"interrupted after epoch {self._finished}; go on with --resume={self._run_dir}"


def make_console() -> Console:
    """As wide as the terminal, or wide enough for a table where there is none."""
    console = Console()
    return console if console.is_terminal else Console(width=_PLAIN_WIDTH)


def print_result(result: Mapping[str, Any], console: Console | None = None) -> None:
    """The last thing printed: the metrics on validation and test, and where everything is."""
    console = console or make_console()
    title = f"{result['model']} on {result['dataset']}, seed {result['seed']}"
    if "protocol" in result:
        title += f", protocol {result['protocol']}" + ", LEAKY: test labels reach the input" * result["leaky"]
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("metric")
    table.add_column("valid", justify="right")
    table.add_column("test", justify="right")
    intervals = result.get("intervals")
    if intervals:
        table.add_column(f"95 % over {len(result['folds'])} folds", justify="right")
    mark = " leaky" if result.get("leaky") else ""
    for name, value in result["test"].items():
        row = [name, f"{result['valid'].get(name, float('nan')):.4f}{mark}", f"{value:.4f}{mark}"]
        console_interval = [f"{intervals[name][0]:.4f} to {intervals[name][1]:.4f}"] if intervals else []
        table.add_row(*row, *console_interval)
    console.print(table)
    best = f"best epoch {result['best_epoch']} of" if result["best_epoch"] is not None else "epochs"
    console.print(
        f"{best} {result['epochs']}, {result['parameters']:,} parameters, "
        f"training {result['train_s']:.1f} s, evaluation {result['eval_s']:.1f} s, all {result['wall_s']:.1f} s, "
        f"peak memory {result['peak_rss_mb']:.0f} MB",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    console.print(f"written to {result['run_dir']}", highlight=False, soft_wrap=True)


def print_comparison(comparison: Any, console: Console | None = None) -> None:
    """The table of a comparison, what its numbers are, and where it is."""
    from recbole_mm.comparison import BASENAME, describe, table

    console = console or make_console()
    header, rows = table(comparison)
    shown = Table(title=f"test on {comparison.dataset}", title_justify="left", title_style="bold")
    for name in header:
        shown.add_column(name, justify="left" if name == "model" else "right")
    for row in rows:
        shown.add_row(*row)
    console.print(shown)
    console.print(describe(comparison), highlight=False)
    console.print(
        f"written to {comparison.directory}/{BASENAME}.md, .csv, .json, .png", highlight=False, soft_wrap=True
    )


def print_experiment(experiment: Any, cells: Mapping[Any, Any], console: Console) -> None:
    """The tables of an experiment: one row a row and metric."""
    from recbole_mm.experiment import METRICS, shown

    for name in experiment.tables:
        table = Table(title=f"{experiment.title}: {name}", title_justify="left", title_style="bold")
        for header in ("", "metric", *experiment.columns):
            table.add_column(header, justify="left" if header in ("", "metric") else "right")
        for row in experiment.rows:
            for metric in METRICS:
                values = [shown(cells.get((name, row, column)), metric) for column in experiment.columns]
                table.add_row(row, metric, *values)
        console.print(table)
    console.print("Means over folds and seeds ± half of the 95 % t-interval.", highlight=False)
