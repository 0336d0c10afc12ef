"""``recbole-mm [train] --model=X --dataset=Y [--any_key=value]``."""

from pathlib import Path
from typing import Any

import click

from recbole_mm.errors import CheckpointError, ConfigError

PASS_THROUGH = {
    "ignore_unknown_options": True,
    "allow_extra_args": True,
    "help_option_names": ["-h", "--help"],
}


@click.command(context_settings=PASS_THROUGH)
@click.option("--model", help="MMFusion, VBPR, any model of RecBole, or package.module:Class.")
@click.option("--dataset", help="imdb (built on first use), ml-100k, or a folder of atomic files under data_path.")
@click.option("--config_files", default="", help="YAML property files, separated by spaces; later ones win.")
@click.option("--run_dir", help="Where to write the run. [default: runs/<dataset>/<model>/<time>/]")
@click.option("--resume", metavar="RUN_DIR", help="Go on with an interrupted run from its last finished epoch.")
@click.pass_context
def train(
    ctx: click.Context,
    model: str | None,
    dataset: str | None,
    config_files: str,
    run_dir: str | None,
    resume: str | None,
) -> None:
    """Train with early stopping, evaluate on test, write one directory.

    Any parameter of RecBole, of the model or of the data set is set by --key=value, such as --epochs=20,
    --modalities=text,image or --learning_rate=1e-3. --experiment=NAME runs the tables of that name instead.
    """
    from recbole_mm.cli import Interrupted, parameters
    from recbole_mm.cli.console import ConsoleReporter, print_result

    options = {option for parameter in ctx.command.params for option in parameter.opts}
    given = parameters(ctx.args, {o.removeprefix("--") for o in options})
    if resume is None and (name := _experiment(config_files.split(), given)) is not None:
        _run_experiment(name, model, dataset, config_files.split(), given, run_dir)
        return
    reporter = ConsoleReporter()
    try:
        if resume is not None:
            result = _resume(resume, model, dataset, given, run_dir or config_files, reporter)
        else:
            result = _run(model, dataset, config_files.split(), given, run_dir, reporter)
    except KeyboardInterrupt:
        reporter.end()
        raise Interrupted(reporter.interrupted()) from None
    print_result(result)


def _run(
    model: str | None,
    dataset: str | None,
    files: list[str],
    given: dict[str, str],
    run_dir: str | None,
    reporter: Any,
) -> dict[str, Any]:
    # names are checked before torch and RecBole are imported: a typing mistake is answered at once
    from recbole_mm.catalogue import find_model

    if model:
        find_model(model)
    reporter.stage("starting")
    from recbole_mm.cli import values
    from recbole_mm.quick_start import run

    return run(model, dataset, config_files=files, config=values(given), run_dir=run_dir, reporter=reporter)


def _experiment(files: list[str], given: dict[str, str]) -> str | None:
    """``experiment`` of the command line or of a property file."""
    for file in files:
        if not Path(file).is_file():
            raise ConfigError(f"{file}: no such config file")
    if "experiment" in given or not files:
        return given.get("experiment")
    from recbole_mm.config import read_yaml

    found = [read_yaml(Path(file)).get("experiment") for file in files]
    return next((name for name in reversed(found) if name is not None), None)


def _run_experiment(
    name: str, model: str | None, dataset: str | None, files: list[str], given: dict[str, str], run_dir: str | None
) -> None:
    from recbole_mm.cli import values
    from recbole_mm.cli.tables import run_named
    from recbole_mm.config import read_yaml

    if model is not None:
        raise ConfigError(f"--experiment={name} names the models itself; leave --model out")
    config = {key: value for file in files for key, value in read_yaml(Path(file)).items()} | values(given)
    config.pop("experiment", None)
    run_named(name, run_dir, None, config, dataset=dataset)


def _resume(
    where: str,
    model: str | None,
    dataset: str | None,
    given: dict[str, str],
    other: str | None,
    reporter: Any,
) -> dict[str, Any]:
    if given or other:
        raise ConfigError("--resume goes on with the run's own configuration; leave out other parameters")
    reporter.stage("starting")
    from recbole_mm.config import read_yaml
    from recbole_mm.quick_start import resume
    from recbole_mm.run_directory import CONFIG

    if (Path(where) / CONFIG).is_file():
        config = read_yaml(Path(where) / CONFIG)
        for key, value in (("model", model), ("dataset", dataset)):
            if value is not None and value != config.get(key):
                raise CheckpointError(
                    f"{where}: run of {key} '{config.get(key)}', asked for '{value}'; leave --{key} out"
                )
    return resume(where, reporter=reporter)
