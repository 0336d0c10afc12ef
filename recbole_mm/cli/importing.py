"""``recbole-mm import KIND --source PATH``: a raw data set becomes atomic files, feature files and a YAML."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from recbole_mm.importers.report import ImportReport


@click.group(name="import")
def import_() -> None:
    """Turn a raw data set into atomic files, feature files and a data set YAML."""


def _common(default_name: str | None) -> Callable[[Any], Any]:
    options = [
        click.option("--source", required=True, help="Where the raw data set is."),
        click.option(
            "--name",
            default=default_name,
            required=default_name is None,
            show_default=True,
            help="Name of the data set.",
        ),
        click.option("--data_path", default="dataset", show_default=True, help="Folder of the data sets' folders."),
        click.option("--replace", is_flag=True, help="Replace a different data set of that name."),
    ]

    def decorate(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


@import_.command()
@_common("flickscore")
@click.option("--languages", default="Hindi", show_default=True, help="Comma-separated, or 'all'.")
@click.option("--min_genres", default=1, show_default=True, help="Leave out movies with fewer genres.")
def flickscore(source: str, name: str, data_path: str, replace: bool, languages: str, min_genres: int) -> None:
    """Flickscore: labels -1 dislike, 0 neutral, 1 like; movies.jsonl, posters and features."""
    from recbole_mm.importers import flickscore as kind

    chosen = [] if languages == "all" else [x.strip() for x in languages.split(",") if x.strip()]
    _import(
        kind.KIND, name, data_path, replace, {"languages": chosen, "min_genres": min_genres},
        lambda target, report: kind.build(target, Path(source), report, languages=chosen, min_genres=min_genres),
    )  # fmt: skip


@import_.command()
@_common("movielens")
def movielens(source: str, name: str, data_path: str, replace: bool) -> None:
    """MovieLens: ratings.csv (latest to 32M), ratings.dat (1M, 10M), u.data (100K), or --source recbole (100K)."""
    from recbole_mm.importers import movielens as kind

    _import(
        kind.KIND, name, data_path, replace, {}, lambda target, report: kind.build(target, Path(source), report)
    )  # fmt: skip


@import_.command()
@_common("mmrec")
@click.option("--modality", "modalities", multiple=True, metavar="NAME=FILE", help="Name of a .npy file's modality.")
def mmrec(source: str, name: str, data_path: str, replace: bool, modalities: tuple[str, ...]) -> None:
    """A folder in MMRec's format: x_label becomes pre-split files, .npy rows are items."""
    from recbole_mm.cli import pairs
    from recbole_mm.importers import mmrec as kind

    names = {file: modality for modality, file in pairs(modalities, "--modality", "text=text_feat.npy").items()}
    _import(
        kind.KIND, name, data_path, replace, {"modalities": names},
        lambda target, report: kind.build(target, Path(source), report, names),
    )  # fmt: skip


@import_.command(name="csv")
@_common(None)
@click.option("--user", required=True, help="Column of user ids.")
@click.option("--item", required=True, help="Column of item ids.")
@click.option("--rating", help="Column of ratings, if there is one.")
@click.option("--timestamp", help="Column of times, if there is one: seconds, or ISO 8601 dates.")
@click.option("--delimiter", help="Character between fields, or 'tab'. [default: told from the header]")
@click.option("--encoding", default="utf-8", show_default=True, help="Of the file, such as latin-1.")
@click.option(
    "--duplicates", type=click.Choice(["last", "first", "all"]), default="last", show_default=True,
    help="Which rows of one user and item to keep.",
)  # fmt: skip
def csv(source: str, name: str, data_path: str, replace: bool, **columns: Any) -> None:
    """Any delimited file of interactions, by naming its columns."""
    from recbole_mm.importers import table as kind

    if columns["delimiter"] in {"tab", "\\t"}:
        columns["delimiter"] = "\t"
    _import(
        kind.KIND, name, data_path, replace, columns,
        lambda target, report: kind.build(target, Path(source), report, kind.Named(**columns)),
    )  # fmt: skip


@import_.command()
@_common(None)
@click.option("--posters", help="Folder of images named by IMDb id.")
def metadata(source: str, name: str, data_path: str, replace: bool, posters: str | None) -> None:
    """Facts of movies (IMDb, OMDb, TMDB; CSV, TSV or JSON) for the items of the data set NAME.

    Fills empty cells of its .item file; with --replace also those that are filled.
    """
    from recbole_mm.importers import metadata as kind
    from recbole_mm.importers.report import METADATA_REPORT, ImportReport

    folder, report = Path(data_path) / name, ImportReport(kind.KIND, name, {"posters": bool(posters)})
    outcome = kind.enrich(folder, Path(source), report, posters=Path(posters) if posters else None, replace=replace)
    _show(report, folder, METADATA_REPORT, outcome)


def _import(
    kind: str, name: str, data_path: str, replace: bool, options: dict[str, Any],
    build: "Callable[[Path, ImportReport], None]",
) -> None:  # fmt: skip
    from recbole_mm.importers.folder import put
    from recbole_mm.importers.report import REPORT, ImportReport

    report = ImportReport(kind, name, options)
    folder = Path(data_path) / name
    outcome = put(folder, report, lambda target: build(target, report), replace=replace)
    _show(report, folder, REPORT, outcome)


def _show(report: "ImportReport", folder: Path, report_file: str, outcome: str) -> None:
    from rich.table import Table

    from recbole_mm.cli.console import make_console

    console = make_console()
    table = Table(title=f"import of {report.name}", title_justify="left", title_style="bold")
    for column in ("file", "rows", "kept", "dropped", "why", "first row"):
        table.add_column(column, justify="left" if column in {"file", "why"} else "right")
    for entry in report.tables:
        table.add_row(entry.file, f"{entry.rows:,}", f"{entry.kept:,}", f"{entry.rows - entry.kept:,}", "", "")
        for drop in entry.dropped:
            table.add_row("", "", "", f"{drop.rows:,}", drop.reason, f"{drop.first_row:,}")
    console.print(table)
    for note in report.notes:
        console.print(f"note: {note}", highlight=False, soft_wrap=True)
    console.print(", ".join(f"{n:,} {what}" for what, n in report.counts.items()), highlight=False)
    console.print(f"{outcome}: {folder} (what was dropped: {folder / report_file})", highlight=False, soft_wrap=True)
    console.print(
        f"train on it: recbole-mm --model={'MMFusion' if report.modalities else 'BPR'} --dataset={report.name}"
        + (f" --data_path={folder.parent}" if str(folder.parent) != "dataset" else ""),
        highlight=False, soft_wrap=True,
    )  # fmt: skip
