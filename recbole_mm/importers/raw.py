"""Raw tables as polars reads them: every cell as text, so that ids survive; what does not parse is counted later."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from recbole_mm.errors import DataError, nearest

SURPLUS = "__surplus__"  # filled where a row has more fields than the header
_DELIMITERS = {"\t": "tab", ",": "comma", ";": "semicolon", "|": "bar"}


@dataclass(frozen=True)
class RawTable:
    """A delimited file that has not been read yet: its columns, and the rows as a lazy frame of text."""

    path: Path
    columns: tuple[str, ...]
    rows: pl.LazyFrame

    def column(self, *names: str) -> str:
        """The first of ``names`` that the table has.

        Raises:
            DataError: it has none of them; the nearest column is offered.
        """
        found = self.optional(*names)
        if found is None:
            raise DataError(
                f"{self.path}: no column '{names[0]}' (columns: {', '.join(self.columns)})"
                f"{nearest(names[0], self.columns)}"
            )
        return found

    def optional(self, *names: str) -> str | None:
        """The first of ``names`` that the table has, or None."""
        return next((n for n in names if n in self.columns), None)

    def collect(self, **named: str | None) -> pl.DataFrame:
        """The columns under new names (``title="Title"``), read now; a missing cell is null.

        Raises:
            DataError: the file cannot be read.
        """
        wanted = [pl.col(column).alias(name) for name, column in named.items() if column is not None]
        return read(self.rows.select(wanted), self.path)


def require(path: Path, what: str) -> Path:
    """``path`` if it is a file that is not empty.

    Raises:
        DataError: it is not.
    """
    if not path.is_file():
        beside = [f.name for f in path.parent.iterdir()] if path.parent.is_dir() else []
        raise DataError(f"{path}: no such file; expected {what}{nearest(path.name, beside)}")
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty; expected {what}")
    return path


def open_table(
    path: Path,
    *,
    what: str,
    delimiter: str | None = None,
    header: Sequence[str] | None = None,
    quotes: bool = True,
) -> RawTable:
    """Open a delimited text file, with or without a byte-order mark, and with either kind of line end.

    Args:
        path: the file.
        what: what it should be, for the error.
        delimiter: one character; by default the one that splits the first line into most fields.
        header: the columns of a file that does not name them; by default its first line.
        quotes: whether ``"`` encloses a field.

    Raises:
        DataError: no such file, an empty one, one that is not UTF-8, or columns that repeat.
    """
    require(path, what)
    first = _first_line(path)
    delimiter = delimiter or max(_DELIMITERS, key=first.count)
    if len(delimiter.encode()) != 1:
        raise DataError(f"delimiter {delimiter!r}: expected one character, such as ',' or a tab")
    columns = tuple(header or _split(first, delimiter, quotes))
    if len(set(columns)) < len(columns):
        twice = next(c for c in columns if columns.count(c) > 1)
        raise DataError(f"{path}: column '{twice}' occurs twice; expected a header of different names")
    rows = pl.scan_csv(
        path,
        separator=delimiter,
        has_header=False,
        skip_rows=0 if header else 1,
        schema=dict.fromkeys([*columns, SURPLUS], pl.String),
        quote_char='"' if quotes else None,
        extra_columns="ignore",
        missing_columns="insert",
        raise_if_empty=False,
    )
    return RawTable(path, columns, rows)


def read(rows: pl.LazyFrame, path: Path) -> pl.DataFrame:
    """Run a query over a raw file.

    Raises:
        DataError: polars cannot read the file.
    """
    try:
        return rows.collect(engine="streaming")
    except (pl.exceptions.PolarsError, OSError) as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: Exception) -> DataError:
    """The error for a file that polars gave up on."""
    said = str(error).splitlines()[0] if str(error) else type(error).__name__
    if "utf-8" in said:
        return DataError(f"{path}: not UTF-8; expected UTF-8 text: give its encoding, such as latin-1, or convert it")
    if "escaped" in str(error):
        return DataError(f'{path}: a field opens with a quotation mark that nothing closes; expected "..." or none')
    return DataError(f"{path}: cannot be read ({said}); expected a delimited text file")


def read_json_lines(path: Path, *, what: str) -> tuple[list[dict[str, Any]], int, int, int]:
    """Objects of a JSON lines file.

    Returns:
        The objects, the number of lines, the number that hold no JSON object, and the first such line (from 1).

    Raises:
        DataError: no such file, an empty one, or not one readable line.
    """
    require(path, what)
    objects: list[dict[str, Any]] = []
    lines, bad, first_bad = 0, 0, 0
    with path.open("rb") as file:
        for line in file:
            if not line.strip():
                continue
            lines += 1
            try:
                value = json.loads(line.decode("utf-8-sig" if lines == 1 else "utf-8"))
            except ValueError:
                value = None
            if isinstance(value, dict):
                objects.append(value)
            else:
                bad, first_bad = bad + 1, first_bad or lines
    if not objects:
        raise DataError(f"{path}: none of its {lines} lines is a JSON object; expected {what}")
    return objects, lines, bad, first_bad


def frame_of(objects: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> pl.DataFrame:
    """Keys of JSON objects as columns: text for text and numbers, lists of text for lists; absent ones are null."""
    columns = {}
    for key in keys:
        cells = [o.get(key) for o in objects]
        if any(isinstance(c, list) for c in cells):
            lists = [[str(x) for x in c if x is not None] if isinstance(c, list) else [] for c in cells]
            columns[key] = pl.Series(key, lists, dtype=pl.List(pl.String))
        else:
            texts = [None if c is None else str(c) for c in cells]
            columns[key] = pl.Series(key, texts, dtype=pl.String)
    return pl.DataFrame(columns)


def _first_line(path: Path) -> str:
    with path.open("rb") as file:
        line = file.readline(1 << 20)
    try:
        return line.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise unreadable(path, ValueError("invalid utf-8")) from error


def _split(line: str, delimiter: str, quotes: bool) -> list[str]:
    if not quotes:
        return line.split(delimiter)
    return next(csv.reader([line], delimiter=delimiter), [])
