"""Facts of movies (IMDb, OMDb, TMDB; CSV, TSV or JSON) joined to the items of a data set that is there already."""

import json
import re
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
from recbole_mm.importers.raw import open_table, read_json_lines, suffix
from recbole_mm.importers.report import METADATA_REPORT, Dropped, ImportReport, digest

KIND = "metadata"
_JSON = {".jsonl", ".ndjson", ".json"}
_WHAT = "a table of movies with an IMDb or TMDB id: CSV, TSV or JSON lines of IMDb, OMDb or TMDB"
# our names, and what IMDb, OMDb and TMDB call them, in the order of preference
_NAMES = {
    ITEM: (ITEM,),
    "imdb_id": ("imdb_id", "imdbID", "imdbId", "tconst", "movie_id"),
    "tmdb_id": ("tmdb_id", "tmdbId", "id"),
    "title": ("title", "Title", "primaryTitle", "name", "original_title"),
    "year": ("year", "Year", "startYear", "release_date", "released", "Released"),
    "genres": ("genres", "Genre", "genre"),
    "language": ("language", "Language", "spoken_languages", "original_language"),
    "director": ("director", "Director", "directors"),
    "cast": ("cast", "actors", "Actors"),
    "plot": ("plot", "Plot", "overview", "description"),
    "poster": ("poster",),
}  # fmt: skip
_KEYS = (ITEM, "imdb_id", "tmdb_id")  # by which items are found, in the order of preference
_SEQUENCES = ("genres", "language", "director", "cast")
_NEW = "__new__"
# lists in a cell: ['A', "B's"], or TMDB's [{"id": 1, "name": "A"}], in JSON's or in Python's spelling
_QUOTED = r"""("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')"""
_NAMED = r"""["']name["']\s*:\s*"""
_CODED = re.compile(r"(?:\\u[0-9a-fA-F]{4})+")
_MISSING = ("", "N/A", "NA", "\\N", "null", "None", "nan")


def enrich(folder: Path, source: Path, report: ImportReport, *, posters: Path | None, replace: bool) -> str:
    """Fill the cells of ``<name>.item`` from the metadata, and register genre and year where they are new.

    Items are found by the metadata's ``item_id`` where it has one, otherwise by IMDb id (the data set's column
    ``imdb_id``, or its item ids where they are IMDb's), otherwise by TMDB id (its column ``tmdb_id``).

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
    key = _key(items, facts, folder, source)
    if key not in items.columns:
        items = items.with_columns(imdb_id(ITEM).alias(key))
    facts, counted = clean_items(facts, key, source.name, broken, column=key)
    report.tables.append(counted)
    facts = _tidied(facts.filter(pl.col(key).is_in(items[key].implode())))  # a dump of IMDb's has millions of others
    found = int(items[key].is_in(facts[key].implode()).sum())
    if not found:
        raise DataError(f"{source}: none of the {len(items)} items of '{report.name}' is in it by {key}")
    if posters is not None:
        facts = _with_posters(facts, posters, report)
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
    """The metadata's cells under our names, IMDb ids in their usual form; and the lines that do not parse."""
    broken: list[Dropped] = []
    if suffix(source) in _JSON:
        keys = dict.fromkeys((name for names in _NAMES.values() for name in names), pl.String())
        objects, lost = read_json_lines(source, keys, what=_WHAT)
        rows = objects.select(c for c in objects if c.null_count() < len(objects))
        picked = _picked(rows.columns, source)
        named, broken = rows.select(pl.col(theirs).alias(ours) for ours, theirs in picked.items()), [lost]
    else:
        table = open_table(source, what=_WHAT)
        picked = _picked(table.columns, source)
        named = table.collect(**picked)
    if "imdb_id" in picked:
        ids = imdb_id("imdb_id")
        # Flickscore's movie_id is IMDb's; that of MovieLens or TMDB is a number of their own
        ours = pl.col("imdb_id").str.starts_with("tt") | (picked["imdb_id"] != "movie_id")
        named = named.with_columns(pl.when(ours).then(ids).alias("imdb_id"))
    return named, broken


def _picked(columns: Sequence[str], source: Path) -> dict[str, str]:
    """The metadata's column for each of our names that it has."""
    found = {ours: next((n for n in theirs if n in columns), None) for ours, theirs in _NAMES.items()}
    if found["tmdb_id"] == "id" and "overview" not in columns:
        found["tmdb_id"] = None  # an id of somebody else's: TMDB's stands beside its overview
    picked = {ours: name for ours, name in found.items() if name is not None}
    if not picked.keys() & set(_KEYS):
        expected = ", ".join(name for key in _KEYS for name in _NAMES[key])
        have = ", ".join(columns) or "none that is known"
        raise DataError(f"{source}: no IMDb id (columns: {have}); expected one of {expected}")
    return picked


def _tidied(facts: pl.DataFrame) -> pl.DataFrame:
    """Every cell one line of text, or words."""
    decoded = facts.with_columns(_decoded(facts[c]) for c in _SEQUENCES if c in facts.columns)
    return decoded.with_columns(_tidy(column) for column in decoded.columns)


def _decoded(cells: pl.Series) -> pl.Series:
    """Cells with the characters that JSON spells as four hexadecimal digits."""
    coded = cells.filter(cells.str.contains(_CODED.pattern)).unique()
    texts = [_CODED.sub(lambda run: str(json.loads(f'"{run[0]}"')), cell) for cell in coded]
    return cells.replace(coded, pl.Series([t.encode("utf-8", "replace").decode() for t in texts], dtype=pl.String))


def _tidy(column: str) -> pl.Expr:
    cell = pl.when(~pl.col(column).str.strip_chars().is_in(_MISSING)).then(pl.col(column))
    if column in _SEQUENCES:
        return _names(cell).alias(column)
    if column == "year":
        return year(cell).cast(pl.String).alias(column)
    return line(cell).alias(column)


def _names(cell: pl.Expr) -> pl.Expr:
    """A sequence of words from ``A, B``, ``A|B``, a list of texts, or a list of objects with a name."""
    named = cell.str.extract_all(_NAMED + _QUOTED).list.eval(pl.element().str.replace(_NAMED, ""))
    quoted = pl.when(cell.str.contains(_NAMED)).then(named).otherwise(cell.str.extract_all(_QUOTED))
    text = pl.element().str.slice(1, pl.element().str.len_chars() - 2)
    text = text.str.replace_all(r"\\(?:[nrt]|x[0-9a-f]{2})", " ").str.replace_all(r"\\(.)", "$1")
    plain = cell.str.replace_all(r"\s*[|,]\s*", "|")
    is_list = cell.str.contains(r"^\s*[\[{]")
    return words(pl.when(is_list).then(quoted.list.eval(text).list.join("|")).otherwise(plain).str.split("|"))


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
    there = set(items.columns)
    if items[ITEM].str.contains(r"^tt\d+$").all():
        there.add("imdb_id")
    for key in _KEYS:
        if key in facts.columns and key in there:
            return key
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
