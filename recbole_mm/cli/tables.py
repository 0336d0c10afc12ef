"""``recbole-mm tables NAME`` and ``recbole-mm audit-leakage``: experiments of many runs, printed as tables."""

from typing import Any

import click

from recbole_mm.cli.train import PASS_THROUGH

WORKERS = click.option("--workers", type=click.IntRange(min=1), help="Runs at a time. [default: cores, at most 8]")


@click.command(context_settings=PASS_THROUGH)
@click.argument("name")
@click.option("--out_dir", help="Where to write; finished runs in it are taken over. [default: experiments/NAME]")
@WORKERS
@click.pass_context
def tables(ctx: click.Context, name: str, out_dir: str | None, workers: int | None) -> None:
    """Run an experiment of properties/experiment, such as flickscore_tables; parameters are set by --key=value."""
    run_named(name, out_dir, workers, _parameters(ctx))


@click.command("audit-leakage", context_settings=PASS_THROUGH)
@click.option("--dataset", default="flickscore", show_default=True, help="A data set of three-class labels.")
@click.option("--out_dir", help="Where to write; finished runs in it are taken over. [default: experiments/...]")
@WORKERS
@click.pass_context
def audit_leakage(ctx: click.Context, dataset: str, out_dir: str | None, workers: int | None) -> None:
    """Accuracy and macro-F1 of the published network under each defect of its evaluation, all of them, and none."""
    where = out_dir or f"experiments/leakage_audit-{dataset}"
    run_named("leakage_audit", where, workers, _parameters(ctx), dataset=dataset)


def _parameters(ctx: click.Context) -> dict[str, Any]:
    from recbole_mm.cli import parameters, values

    return values(parameters(ctx.args, {"out_dir", "dataset", "workers"}))


def run_named(
    name: str, out_dir: str | None, workers: int | None, config: dict[str, Any], *, dataset: str | None = None
) -> None:
    """Run an experiment, print its tables and say where they are."""
    from pathlib import Path

    from recbole_mm.cli import Interrupted
    from recbole_mm.cli.console import make_console, print_experiment
    from recbole_mm.experiment import default_workers, read_experiment, run_experiment

    experiment = read_experiment(name)
    if dataset is not None:
        experiment = experiment.model_copy(update={"dataset": dataset})
    where = Path(out_dir or f"experiments/{name}")
    console = make_console()

    def say(line: str) -> None:
        console.print(line, highlight=False, soft_wrap=True)

    try:
        cells = run_experiment(experiment, where, config=config, workers=workers or default_workers(), progress=say)
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted; go on with the same command and --out_dir={where}") from None
    print_experiment(experiment, cells, console)
    say(f"written to {where}/tables.md, tables.json, accuracy.png, macro_f1.png")
