"""Cleaning a table of items: one row an item, under an id that an atomic file can hold."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from recbole_mm.importers.interactions import ITEM, UNUSABLE, unusable_token
from recbole_mm.importers.report import Dropped, TableReport

ITEM_TYPES = {
    "item_id": "token", "imdb_id": "token", "tmdb_id": "token", "title": "token", "year": "float",
    "genres": "token_seq", "language": "token_seq", "director": "token_seq", "cast": "token_seq", "plot": "token",
    "poster": "token",
}  # fmt: skip
GENRE = {"field": "genres", "encoding": "multi_hot"}
YEAR = {"field": "year", "encoding": "bumps", "bump_width": 8}


def types_of(frame: pl.DataFrame) -> dict[str, str]:
    """RecBole's types of an item table's columns, in this module's order."""
    return {name: kind for name, kind in ITEM_TYPES.items() if name in frame.columns}


def fact_modalities(frame: pl.DataFrame) -> dict[str, dict[str, Any]]:
    """The modalities that genres and year make, where some item has them."""
    found: dict[str, dict[str, Any]] = {}
    for name, entry in (("genre", GENRE), ("year", YEAR)):
        column = str(entry["field"])
        if column in frame.columns and frame[column].cast(pl.String).fill_null("").ne("").any():
            found[name] = dict(entry)
    return found


def clean_items(
    frame: pl.DataFrame, raw_id: str, file: str, surplus: Sequence[Dropped] = (), *, column: str = ITEM
) -> tuple[pl.DataFrame, TableReport]:
    """Drop rows without a usable id, and all but the first row of an item.

    Args:
        frame: the table, with the id as text.
        raw_id: what the raw file calls the id.
        file: the raw file's name.
        surplus: rows that were lost before, such as lines that do not parse.
        column: what ``frame`` calls the id.
    """
    frame = frame.with_columns(pl.col(column).str.strip_chars())
    missing = (frame[column] == "").fill_null(True)
    unusable = frame.select(unusable_token(pl.col(column))).to_series().fill_null(False) & ~missing
    repeated = ~frame[column].is_first_distinct() & ~missing & ~unusable
    dropped = [
        *surplus,
        dropped_where(f"no {raw_id}", missing),
        dropped_where(f"{raw_id} {UNUSABLE}", unusable),
        dropped_where(f"{raw_id} occurs already (first kept)", repeated),
    ]
    kept = frame.filter(~(missing | unusable | repeated))
    rows = len(frame) + sum(d.rows for d in surplus)
    return kept, TableReport(file, rows, len(kept), tuple(d for d in dropped if d.rows))


def dropped_where(reason: str, where: pl.Series) -> Dropped:
    """The count and the first row of a mask."""
    return Dropped(reason, int(where.sum()), int(where.arg_max() or 0) + 1)


def imdb_id(column: str) -> pl.Expr:
    """``tt0114709`` for ``114709``, ``0114709`` and ``tt0114709``; null for what is no IMDb id."""
    digits = pl.col(column).str.strip_chars().str.extract(r"^(?:tt)?(\d+)$")
    return pl.lit("tt") + digits.str.strip_chars_start("0").str.zfill(7)


def posters_in(folder: Path) -> pl.DataFrame:
    """Images in a folder by their stem: ``imdb_id`` and ``poster``, the path from the folder's parent."""
    images = sorted(f for f in folder.iterdir() if f.suffix.lower() in {".jpg", ".jpeg", ".png", ".webp"})
    stems = [f.stem for f in images]
    paths = [f"{folder.name}/{f.name}" for f in images]
    return pl.DataFrame({"imdb_id": stems, "poster": paths}, schema={"imdb_id": pl.String, "poster": pl.String})
