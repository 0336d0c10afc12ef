"""``recbole-mm compare --models=A,B,C --dataset=Y --seeds=5``."""

from collections.abc import Mapping
from typing import Any

import click

from recbole_mm.cli.train import PASS_THROUGH
from recbole_mm.errors import ConfigError


@click.command(context_settings=PASS_THROUGH)
@click.option("--models", required=True, help="Names, separated by commas.")
@click.option("--dataset", required=True, help="Name of the data set.")
@click.option("--seeds", default="5", show_default=True, help="How many, from 2020 on; or which, as 2020,2021.")
@click.option("--metric", help="The metric that is tested. [default: the validation metric]")
@click.option("--config_files", default="", help="YAML property files for all models, separated by spaces.")
@click.option("--out_dir", help="Where to write; finished runs in it are taken over. [default: comparisons/...]")
@click.pass_context
def compare(
    ctx: click.Context,
    models: str,
    dataset: str,
    seeds: str,
    metric: str | None,
    config_files: str,
    out_dir: str | None,
) -> None:
    """Compare models: one split per seed shared by all, intervals, paired tests, seconds, memory.

    Parameters for all models are set by --key=value.
    """
    from recbole_mm.catalogue import find_model
    from recbole_mm.cli import Interrupted, parameters

    options = {option.removeprefix("--") for parameter in ctx.command.params for option in parameter.opts}
    given = parameters(ctx.args, options)
    names = [name.strip() for name in models.split(",") if name.strip()]
    for name in names:
        find_model(name)
    chosen = _seeds(seeds)
    from recbole_mm.cli.console import make_console, print_comparison
    from recbole_mm.comparison import compare as compare_models
    from recbole_mm.comparison import default_directory

    console = make_console()
    where = out_dir or default_directory(dataset)
    try:
        result = compare_models(
            names,
            dataset,
            seeds=chosen,
            metric=metric,
            config_files=config_files.split(),
            config=given,
            directory=where,
            progress=_Lines(console),
        )
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted; go on with the same command and --out_dir={where}") from None
    print_comparison(result, console)


class _Lines:
    """One line a run."""

    def __init__(self, console: Any) -> None:
        self.console = console

    def run_begins(self, model: str, seed: int, number: int, total: int) -> None:
        """Say which run it is."""
        self.console.print(f"run {number} of {total}: {model}, seed {seed} ...", end=" ", highlight=False)

    def run_ends(self, model: str, seed: int, result: Mapping[str, Any], reused: bool) -> None:
        """Say how it ended."""
        metric = result["valid_metric"]
        how = "already there" if reused else f"{result['wall_s']:.1f} s"
        self.console.print(f"{metric} {result['test'].get(metric, float('nan')):.4f} ({how})", highlight=False)


def _seeds(text: str) -> int | list[int]:
    try:
        numbers = [int(word) for word in text.split(",")]
    except ValueError:
        raise ConfigError(f"seeds={text}; expected a number, or seeds as 2020,2021") from None
    if len(numbers) > 1:
        return numbers
    if not 1 <= numbers[0] <= 100:
        raise ConfigError(f"seeds={text}; expected 1 to 100, or seeds as 2020,2021")
    return numbers[0]
