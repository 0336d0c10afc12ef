"""Facts of movies (IMDb, OMDb, TMDB; CSV or JSON lines) joined to the items of a data set that is there already."""

import json
from collections.abc import Sequence
from pathlib import Path

import polars as pl
import yaml

from recbole_mm.errors import DataError
from recbole_mm.files import replacing, write_text
from recbole_mm.importers.atomic import line, words, write_atomic, write_dataset_yaml, year
from recbole_mm.importers.folder import check_name
from recbole_mm.importers.interactions import ITEM
from recbole_mm.importers.items import ITEM_TYPES, clean_items, fact_modalities, imdb_id, posters_in
from recbole_mm.importers.raw import frame_of, open_table, read_json_lines
from recbole_mm.importers.report import METADATA_REPORT, Dropped, ImportReport, digest

KIND = "metadata"
_JSON = {".jsonl", ".ndjson", ".json"}
_WHAT = "a table of movies with an IMDb id: CSV, TSV or JSON lines of IMDb, OMDb or TMDB"
# our names, and what IMDb, OMDb and TMDB call them, in the order of preference
_NAMES = {
    "imdb_id": ("imdb_id", "imdbID", "imdbId", "tconst", "movie_id"),
    "title": ("title", "Title", "primaryTitle", "name", "original_title"),
    "year": ("year", "Year", "startYear", "release_date", "released", "Released"),
    "genres": ("genres", "Genre", "genre"),
    "language": ("language", "Language", "spoken_languages", "original_language"),
    "director": ("director", "Director", "directors"),
    "cast": ("cast", "actors", "Actors"),
    "plot": ("plot", "Plot", "overview", "description"),
    "poster": ("poster",),
}  # fmt: skip
_SEQUENCES = ("genres", "language", "director", "cast")
_NEW = "__new__"
_MISSING = ("", "N/A", "NA", "\\N", "null", "None", "nan")


def enrich(folder: Path, source: Path, report: ImportReport, *, posters: Path | None, replace: bool) -> str:
    """Fill the cells of ``<name>.item`` from the metadata, and register genre and year where they are new.

    Items are found by the metadata's ``item_id`` where it has one, otherwise by IMDb id: the data set's column
    ``imdb_id``, or its item ids where they are IMDb's.

    Args:
        folder: the data set's.
        source: the table of movies.
        report: what is read, kept and dropped is noted here.
        posters: a folder of images named by IMDb id.
        replace: whether the metadata's cells win over cells that are filled already.

    Returns:
        ``"written"`` or ``"unchanged"``.

    Raises:
        DataError: there is no such data set, no id to join by, or no item is found in the metadata.
    """
    check_name(report.name)
    items, types = _items(folder)
    facts, broken = _facts(source)
    if posters is not None:
        facts = _with_posters(facts, posters, report)
    key = _key(items, facts, folder, source)
    if key not in items.columns:
        items = items.with_columns(imdb_id(ITEM).alias(key))
    facts, counted = clean_items(facts, key, source.name, broken, column=key)
    report.tables.append(counted)
    found = int(items[key].is_in(facts[key].implode()).sum())
    if not found:
        raise DataError(f"{source}: none of the {len(items)} items of '{report.name}' is in it by {key}")
    joined = _fill(items, facts, key, replace=replace)
    types = {**types, **{c: t for c, t in ITEM_TYPES.items() if c in joined.columns and c not in types}}
    report.counts = {"items": len(items), "items found by " + key: found}
    for column in (c for c in ("plot", "poster", "genres", "year") if c in joined.columns):
        report.counts[f"with {column}"] = int(joined[column].fill_null("").ne("").sum())
    return _write(folder, report, joined, types)


def _items(folder: Path) -> tuple[pl.DataFrame, dict[str, str]]:
    name = folder.name
    if (folder / f"{name}.item").is_file():
        table = open_table(folder / f"{name}.item", what="an atomic file of items", delimiter="\t")
        types = dict(c.rpartition(":")[::2] for c in table.columns)
        return table.collect(**{c.rpartition(":")[0]: c for c in table.columns}), types
    tokens: list[pl.Series] = []
    for inter in sorted(folder.glob(f"{name}*.inter")):
        table = open_table(inter, what="an atomic file of interactions", delimiter="\t")
        tokens.append(table.collect(item_id=table.column("item_id:token"))[ITEM])
    if not tokens:
        raise DataError(f"{folder}: no {name}.item or {name}.inter; import the interactions first")
    return pl.concat(tokens).unique(maintain_order=True).to_frame(), {ITEM: "token"}


def _facts(source: Path) -> tuple[pl.DataFrame, list[Dropped]]:
    """The metadata under our names, every cell one line of text, or words; and the lines that do not parse."""
    broken: list[Dropped] = []
    if source.suffix.lower() in _JSON:
        objects, _, bad, first = read_json_lines(source, what=_WHAT)
        broken = [Dropped("not a JSON object", bad, first)]
        columns = tuple(dict.fromkeys(k for o in objects for k in o))
        frame = frame_of(objects, columns)
    else:
        table = open_table(source, what=_WHAT)
        columns = table.columns
        frame = table.collect(**{c: c for c in columns})
    picked = {ours: _pick(columns, theirs) for ours, theirs in _NAMES.items()}
    if picked["imdb_id"] is None and ITEM not in columns:
        raise DataError(f"{source}: no IMDb id (columns: {', '.join(columns)}); expected one of {_NAMES['imdb_id']}")
    named = frame.select(pl.col(c).alias(o) for o, c in {**picked, ITEM: _pick(columns, (ITEM,))}.items() if c)
    named = named.with_columns(_tidy(named, column) for column in named.columns)
    if "imdb_id" in named.columns:
        named = named.with_columns(imdb_id("imdb_id"))
    return named, broken


def _pick(columns: Sequence[str], names: Sequence[str]) -> str | None:
    return next((n for n in names if n in columns), None)


def _tidy(frame: pl.DataFrame, column: str) -> pl.Expr:
    listed = frame[column].dtype == pl.List(pl.String)
    cell = pl.col(column)
    if not listed:
        cell = pl.when(~cell.str.strip_chars().is_in(_MISSING)).then(cell)
    if column in _SEQUENCES:
        return _names(cell, listed).alias(column)
    if column == "year":
        return year(cell).cast(pl.String).alias(column)
    return line(cell.list.join(" ") if listed else cell).alias(column)


def _names(cell: pl.Expr, listed: bool) -> pl.Expr:
    """A sequence of words from a list, from ``A, B`` or ``A|B``, or from TMDB's ``[{"id": 1, "name": "A"}]``."""
    text = cell.list.join("|") if listed else cell
    objects = text.str.extract_all(r"""["']name["']\s*:\s*("[^"]*"|'[^']*')""").list.eval(
        pl.element().str.replace(r"""^["']name["']\s*:\s*["']""", "").str.strip_chars("\"'")
    )
    plain = text.str.split("|") if listed else text.str.replace_all(r"\s*[|,]\s*", "|").str.split("|")
    names = pl.when(text.str.contains(r"""["']name["']\s*:""")).then(objects).otherwise(plain)
    return words(names)


def _with_posters(facts: pl.DataFrame, posters: Path, report: ImportReport) -> pl.DataFrame:
    if not posters.is_dir():
        raise DataError(f"{posters}: no such folder of posters")
    if "imdb_id" not in facts.columns:
        raise DataError("posters are named by IMDb id, and the metadata has none; leave --posters out")
    there = posters_in(posters).with_columns(imdb_id("imdb_id")).drop_nulls().unique("imdb_id", maintain_order=True)
    joined = facts.drop("poster", strict=False).join(there, on="imdb_id", how="left", maintain_order="left")
    missing = int(joined["poster"].is_null().sum())
    if missing:
        report.notes.append(f"{missing} of {len(facts)} movies have no poster in {posters.name}/")
    return joined


def _key(items: pl.DataFrame, facts: pl.DataFrame, folder: Path, source: Path) -> str:
    if ITEM in facts.columns:
        return ITEM
    of_imdb = "imdb_id" in items.columns or items[ITEM].str.contains(r"^tt\d+$").all()
    if "imdb_id" in facts.columns and of_imdb:
        return "imdb_id"
    raise DataError(
        f"{folder}: its items have no imdb_id, and {source} has no item_id; expected either: import the data set with "
        "its links, or add a column item_id to the metadata"
    )


def _fill(items: pl.DataFrame, facts: pl.DataFrame, key: str, *, replace: bool) -> pl.DataFrame:
    """The items with the metadata's cells where theirs are empty, or everywhere that there are any."""
    other = facts.drop(ITEM if key != ITEM else "", strict=False)
    joined = items.join(other, on=key, how="left", maintain_order="left", suffix=_NEW)
    both = [c for c in items.columns if c + _NEW in joined.columns]
    old = {c: pl.when(pl.col(c) != "").then(pl.col(c)) for c in both}
    order = {c: (pl.col(c + _NEW), old[c]) if replace else (old[c], pl.col(c + _NEW)) for c in both}
    return joined.with_columns(pl.coalesce(pair).alias(c) for c, pair in order.items()).drop(c + _NEW for c in both)


def _write(folder: Path, report: ImportReport, items: pl.DataFrame, types: dict[str, str]) -> str:
    """The items first, then what registers them, then the report: each whole, and the same if it is done again."""
    item_file, yaml_file = folder / f"{folder.name}.item", folder / f"{folder.name}.yaml"
    report.before = _as_imported(folder, [item_file, yaml_file])
    before = _bytes(item_file)
    with replacing(item_file) as temporary:
        write_atomic(temporary, items, {c: types[c] for c in types if c in items.columns})
    changed = before != _bytes(item_file)
    content = yaml.safe_load(yaml_file.read_text(encoding="utf-8")) if yaml_file.is_file() else {}
    modalities = {**fact_modalities(items), **(content.get("modalities") or {})}
    if modalities != (content.get("modalities") or {}):
        write_dataset_yaml(folder, report, {**content, "modalities": modalities})
        changed = True
    report.modalities = list(modalities)
    report.files = [item_file.name, yaml_file.name]
    write_text(folder / METADATA_REPORT, report.text())
    return "written" if changed else "unchanged"


def _as_imported(folder: Path, files: Sequence[Path]) -> dict[str, str]:
    """Digests of the files as they were before any metadata, so that the import is known to be the same later."""
    try:
        return dict(json.loads((folder / METADATA_REPORT).read_text(encoding="utf-8"))["before"])
    except FileNotFoundError:
        return {f.name: digest(f) for f in files if f.is_file()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder / METADATA_REPORT}: not readable ({error}); delete it") from error


def _bytes(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""
