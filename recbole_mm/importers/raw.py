"""Raw tables as polars reads them: every cell as text, so that ids survive; what does not parse is counted later."""

import codecs
import csv
import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import polars as pl

from recbole_mm.errors import DataError, nearest
from recbole_mm.importers.report import Dropped

SURPLUS = "__surplus__"  # filled where a row has more fields than the header
_IMDB = "tconst\t"
_GZIP = b"\x1f\x8b"
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
    """Open a delimited text file, maybe gzipped, with or without a byte-order mark, and with either kind of line end.

    Args:
        path: the file.
        what: what it should be, for the error.
        delimiter: one character; by default the one that splits the first line into most fields.
        header: the columns of a file that does not name them; by default its first line.
        quotes: whether ``"`` encloses a field; IMDb's own files, told by their column ``tconst``, have none.

    Raises:
        DataError: no such file, an empty one, one that is not UTF-8, or columns that repeat.
    """
    require(path, what)
    first = _first_line(path)
    delimiter = delimiter or max(_DELIMITERS, key=first.count)
    if len(delimiter.encode()) != 1:
        raise DataError(f"delimiter {delimiter!r}: expected one character, such as ',' or a tab")
    quotes = quotes and not first.startswith(_IMDB)
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


def read_json_lines(
    path: Path, types: Mapping[str, pl.DataType | type[pl.DataType]], *, what: str
) -> tuple[pl.DataFrame, Dropped]:
    """Keys of the objects of a JSON lines file as columns; a ``.json`` file may also be one array or one object.

    Args:
        path: the file, maybe gzipped.
        types: the keys that are read: ``pl.String`` for text, numbers and, as JSON, lists and objects;
            ``pl.List(pl.String)`` for lists of text. What is of another kind, or absent, is null.
        what: what it should be, for the error.

    Returns:
        A row an object, and the count of lines that hold none, with the first of them.

    Raises:
        DataError: no such file, an empty one, one that is not UTF-8, or not one readable line.
    """
    require(path, what)
    content = _json_lines(path)
    reason = "not a JSON object"
    frame = _parsed(content, types)
    if frame is not None:
        return frame, Dropped(reason, 0, 1)
    try:
        text = pl.Series("line", content.decode().split("\n")).str.strip_chars()
    except UnicodeDecodeError as error:
        raise unreadable(path, ValueError("invalid utf-8")) from error
    lines = text.filter(text != "").to_frame()
    is_object = pl.col("line").str.json_path_match("$").str.starts_with("{").fill_null(False)
    broken = lines.select(~is_object).to_series()
    if broken.all():
        raise DataError(f"{path}: none of its {len(lines)} lines is a JSON object; expected {what}")
    objects = lines.filter(~broken)["line"]
    frame = pl.read_ndjson("\n".join(objects).encode(), schema=types, ignore_errors=True)
    return frame, Dropped(reason, int(broken.sum()), int(broken.arg_max() or 0) + 1)


def _parsed(content: bytes, types: Mapping[str, pl.DataType | type[pl.DataType]]) -> pl.DataFrame | None:
    """The objects, or None where a line is no JSON or holds none of the keys, so that each has to be looked at."""
    try:
        frame = pl.read_ndjson(content, schema=types, ignore_errors=True)
    except pl.exceptions.ComputeError:
        return None
    return None if frame.select(pl.all_horizontal(pl.all().is_null()).any()).item() else frame


def suffix(path: Path) -> str:
    """The file's suffix in small letters, but for ``.gz``."""
    return Path(path.name.lower().removesuffix(".gz")).suffix


def _json_lines(path: Path) -> bytes:
    """The file's bytes, with one object a line."""
    try:
        with _opened(path) as file:
            content = file.read().removeprefix(codecs.BOM_UTF8)
    except (OSError, EOFError) as error:
        raise unreadable(path, error) from error
    if suffix(path) == ".json":
        try:
            whole = json.loads(content)
        except ValueError:
            return content  # JSON lines under the name of JSON
        content = "\n".join(json.dumps(x) for x in (whole if isinstance(whole, list) else [whole])).encode()
    return content


def _opened(path: Path) -> BinaryIO | gzip.GzipFile:
    """The file's bytes, unpacked if they are gzipped."""
    with path.open("rb") as file:
        packed = file.read(len(_GZIP)) == _GZIP
    return gzip.open(path, "rb") if packed else path.open("rb")


def _first_line(path: Path) -> str:
    try:
        with _opened(path) as file:
            line = file.readline(1 << 20)
    except (OSError, EOFError) as error:
        raise unreadable(path, error) from error
    try:
        return line.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise unreadable(path, ValueError("invalid utf-8")) from error


def _split(line: str, delimiter: str, quotes: bool) -> list[str]:
    if not quotes:
        return line.split(delimiter)
    return next(csv.reader([line], delimiter=delimiter), [])
