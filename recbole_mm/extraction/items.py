"""What is to be encoded: a table of items, and the texts or media files of each."""

import csv
import json
import os
import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from recbole_mm.errors import ExtractionError, nearest

ITEM_COLUMNS = ("item_id", "itemID", "item", "id")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
VIDEO_SUFFIXES = (".mp4", ".mkv", ".webm", ".mov", ".avi", ".m4v", ".mpg", ".mpeg", ".ts", ".ogv", ".flv", ".wmv")
AUDIO_SUFFIXES = (".wav", ".mp3", ".flac", ".ogg", ".opus", ".m4a", ".aac", *VIDEO_SUFFIXES)


@dataclass(frozen=True)
class Item:
    """An item's token and what it is encoded from: texts, or paths; several are averaged.

    ``missing`` says why there are none.
    """

    token: str
    sources: tuple[str | Path, ...]
    missing: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of text cells, and the column that holds the item token."""

    path: Path
    columns: tuple[str, ...]
    rows: list[dict[str, str]]
    item_column: str

    def check(self, column: str) -> str:
        """The column, if the table has it.

        Raises:
            ExtractionError: it does not.
        """
        if column not in self.columns:
            raise ExtractionError(
                f"{self.path}: no column '{column}'{nearest(column, self.columns)} (columns: {', '.join(self.columns)})"
            )
        return column

    def by_item(self) -> dict[str, list[dict[str, str]]]:
        """Rows by item token, in the table's order."""
        found: dict[str, list[dict[str, str]]] = {}
        for row in self.rows:
            token = row[self.item_column]
            if token:
                found.setdefault(token, []).append(row)
        return found


def read_table(path: Path, item_column: str | None = None) -> Table:
    """Read ``.csv``, ``.tsv``, ``.jsonl``, or an atomic file of RecBole (``name:type`` columns).

    Raises:
        ExtractionError: it is missing, unreadable, or has no item column.
    """
    if not path.is_file():
        raise ExtractionError(f"{path}: no such table; expected .csv, .tsv, .jsonl or an atomic file such as .item")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(_json_rows(file) if path.suffix in {".jsonl", ".ndjson"} else _delimited_rows(file, path))
    except (ValueError, UnicodeDecodeError, csv.Error) as error:
        raise ExtractionError(f"{path}: cannot be read ({error}); expected a table in UTF-8") from error
    if not rows:
        raise ExtractionError(f"{path}: no rows; expected one an item, below a header")
    columns = tuple(dict.fromkeys(column for row in rows for column in row))
    table = Table(path, columns, rows, item_column or next((c for c in ITEM_COLUMNS if c in columns), ""))
    if not table.item_column:
        raise ExtractionError(
            f"{path}: no item column (columns: {', '.join(columns)}); name the one that holds the item tokens by "
            "--item-column"
        )
    table.check(table.item_column)
    return table


def _delimited_rows(file: Iterator[str], path: Path) -> Iterator[dict[str, str]]:
    csv.field_size_limit(100_000_000)
    comma = path.suffix == ".csv"
    reader = csv.reader(file, delimiter=",") if comma else csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
    header = [name if comma else name.split(":")[0] for name in next(reader, [])]
    for number, cells in enumerate(reader, 2):
        if cells and len(cells) != len(header):
            raise ValueError(f"line {number} has {len(cells)} cells, the header {len(header)}")
        if cells:
            yield dict(zip(header, cells, strict=True))


def _json_rows(file: Iterator[str]) -> Iterator[dict[str, str]]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        row = json.loads(line)
        if not isinstance(row, dict):
            raise ValueError(f"line {number} holds {type(row).__name__}, expected an object")
        yield {str(key): _cell(value) for key, value in row.items()}


def _cell(value: object) -> str:
    if value is None:
        return ""
    return ", ".join(map(_cell, value)) if isinstance(value, list) else str(value)


class _Blank(dict[str, str]):
    """A column that a row of JSON lines leaves out is empty."""

    def __missing__(self, key: str) -> str:
        return ""


def text_items(table: Table, template: str) -> list[Item]:
    """One item a token; its texts are the template filled by each of its rows, duplicates and empty ones left out.

    Raises:
        ExtractionError: the template names no column, or one that the table does not have.
    """
    try:
        names = [name for _, name, spec, _ in string.Formatter().parse(template) if name is not None]
    except ValueError as error:
        raise ExtractionError(f"template {template!r}: {error}; expected text and {{column}} names") from error
    if not names:
        raise ExtractionError(f"template {template!r}: no {{column}} in it (columns: {', '.join(table.columns)})")
    for name in names:
        table.check(name)
    items = []
    for token, rows in table.by_item().items():
        filled = (_fill(template, names, row) for row in rows)
        texts = tuple(dict.fromkeys(text for text in filled if text))
        items.append(Item(token, texts, "" if texts else f"no text in {', '.join(names)}"))
    return items


def _fill(template: str, names: Sequence[str], row: Mapping[str, str]) -> str:
    cells = {name: " ".join(row.get(name, "").split()) for name in names}
    return template.format_map(_Blank(cells)).strip() if any(cells.values()) else ""


def media_items(table: Table, media: Path, suffixes: Sequence[str], column: str | None = None) -> list[Item]:
    """One item a token, with the files that ``column`` names below ``media``, or those named as the token.

    Raises:
        ExtractionError: there is no such folder or column.
    """
    if not media.is_dir():
        raise ExtractionError(f"{media}: no such media folder")
    if column is not None:
        table.check(column)
        return [_named(token, [row.get(column, "") for row in rows], media) for token, rows in table.by_item().items()]
    by_stem: dict[str, list[Path]] = {}
    for path in sorted(media.iterdir()):
        if path.suffix.lower() in suffixes:
            by_stem.setdefault(path.stem, []).append(path)
    tokens = table.by_item()
    if not set(tokens) & set(by_stem):
        raise ExtractionError(
            f"{media}: no file is named as an item ({len(by_stem)} files; items such as '{next(iter(tokens), '')}'); "
            "name the column that holds the paths by --file-column"
        )
    return [Item(t, tuple(by_stem.get(t, ())), "" if t in by_stem else "no file of this name") for t in tokens]


def _named(token: str, names: Sequence[str], media: Path) -> Item:
    paths = tuple(media / name for name in dict.fromkeys(names) if name.strip())
    return Item(token, paths, "" if paths else "no file named")


def inside(media: Path) -> Callable[[Path], bool]:
    """Whether a path, symbolic links followed, lies below the media folder."""
    root = os.path.realpath(media)
    return lambda path: os.path.commonpath([root, os.path.realpath(path)]) == root
