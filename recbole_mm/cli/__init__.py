"""The command line: ``train`` (also without the word), ``compare``, ``features``. Heavy imports wait until needed."""

import sys
from typing import Any, NoReturn

import click

from recbole_mm.errors import CheckpointError, ConfigError, RecBoleMMError, nearest

INTERRUPTED = 130  # the shell's status for Ctrl-C


class Interrupted(click.ClickException):
    """Ctrl-C, with how to go on."""

    exit_code = INTERRUPTED


class _Commands(click.Group):
    """``train`` is meant when the first word is an option, as RecBole's users write it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own = {"--help", "-h", "--version"}
        if args and args[0].startswith("-") and args[0] not in own and args[0] != "--debug":
            args = ["train", *args]
        elif args[:1] == ["--debug"] and len(args) > 1 and args[1].startswith("-"):
            args = ["--debug", "train", *args[1:]]
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in self.commands:
            raise ConfigError(
                f"unknown command '{args[0]}'{nearest(args[0], self.commands)}; expected {', '.join(self.commands)}, "
                "or --model=NAME --dataset=NAME"
            )
        return super().resolve_command(ctx, args)


def parameters(extra: list[str], known: set[str]) -> dict[str, str]:
    """``--key=value`` words that click left over, as parameters of the run.

    Raises:
        ConfigError: a word of another form, or a key given twice with different values.
    """
    found: dict[str, str] = {}
    for word in extra:
        key, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or not equals or not key:
            hint = nearest(key, known) if word.startswith("--") else ""
            raise ConfigError(f"cannot read '{word}'{hint}; parameters are written --key=value")
        if found.get(key, value) != value:
            raise ConfigError(f"parameter '{key}' is given twice: '{found[key]}' and '{value}'")
        found[key] = value
    return found


def values(given: dict[str, str]) -> dict[str, Any]:
    """Parameters with their values read."""
    from recbole_mm.config import parse_value

    return {key: value if key == "modalities" else parse_value(value) for key, value in given.items()}


def pairs(words: tuple[str, ...], option: str, example: str) -> dict[str, str]:
    """The ``KEY=VALUE`` words of an option that may be given more than once.

    Raises:
        ConfigError: a word of another form.
    """
    found = dict(word.partition("=")[::2] for word in words)
    for key, value in found.items():
        if not key or not value:
            raise ConfigError(f"{option} {key!r}: expected KEY=VALUE, such as {example}")
    return found


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Without a command, options mean 'train': recbole-mm --model=MMFusion --dataset=imdb",
)
@click.version_option(package_name="recbole-mm")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """Multimodal recommendation for RecBole: train a model, compare models, register features."""


def _register() -> None:
    from recbole_mm.cli.add_items import add_items
    from recbole_mm.cli.compare import compare
    from recbole_mm.cli.extract import extract
    from recbole_mm.cli.features import features
    from recbole_mm.cli.importing import import_
    from recbole_mm.cli.recommend import recommend
    from recbole_mm.cli.serve import serve
    from recbole_mm.cli.tables import audit_leakage, tables
    from recbole_mm.cli.train import train

    for command in (train, compare, features, import_, recommend, serve, add_items, tables, audit_leakage, extract):
        cli.add_command(command)


def main(argv: list[str] | None = None) -> NoReturn:
    """Run the command line and exit: 0 well, 1 a clear error, 2 wrong usage, 130 interrupted."""
    args = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in args
    if debug:
        args.remove("--debug")
    if not args:
        args = ["--help"]
    _register()
    try:
        cli.main(args, prog_name="recbole-mm", standalone_mode=False)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except BrokenPipeError:
        sys.exit(1)
    except (click.ClickException, click.Abort, KeyboardInterrupt, RecBoleMMError, OSError) as error:
        _fail(*_explain(error), debug)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "memory" not in str(error):  # torch's way to say it
            raise
        _fail(f"out of memory ({error}); try a smaller train_batch_size or eval_batch_size", 1, debug)
    sys.exit(0)


def _explain(error: BaseException) -> tuple[str, int]:
    """One line, and the exit status."""
    if isinstance(error, click.ClickException):
        return error.format_message(), error.exit_code
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return "interrupted", INTERRUPTED
    if isinstance(error, OSError):
        return f"{error.filename or 'file'}: {error.strerror or error}", 1
    return str(error), 1


def _fail(message: str, status: int, debug: bool) -> NoReturn:
    if debug:
        import traceback

        traceback.print_exc()
    click.echo(f"error: {' '.join(message.split())}", err=True)
    sys.exit(status)


__all__ = ["CheckpointError", "Interrupted", "cli", "main", "pairs", "parameters"]
