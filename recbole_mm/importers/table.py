"""Interactions from any delimited file, by naming its columns."""

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from recbole_mm.errors import DataError
from recbole_mm.importers.atomic import write_atomic, write_dataset_yaml
from recbole_mm.importers.interactions import TIMESTAMP, Columns, clean, number
from recbole_mm.importers.raw import RawTable, open_table, require
from recbole_mm.importers.report import ImportReport

KIND = "csv"
_WHAT = "a delimited text file with a header"
_BLOCK = 1 << 22  # characters
_LOOK = 100  # rows by which the form of a timestamp is told


@dataclass(frozen=True)
class Named:
    """Which column is what, and how the file is written."""

    user: str
    item: str
    rating: str | None = None
    timestamp: str | None = None
    delimiter: str | None = None
    encoding: str = "utf-8"
    duplicates: str = "last"


def build(target: Path, source: Path, report: ImportReport, named: Named) -> None:
    """Write ``.inter`` and the YAML into ``target``.

    Args:
        target: an empty folder.
        source: the file.
        report: what is read, kept and dropped is noted here.
        named: the columns. A timestamp is a number of seconds, or a date in ISO 8601, which becomes one.

    Raises:
        DataError: the file or one of its columns is not there, or nothing is left.
    """
    with _utf8(source, named.encoding) as path:
        table = open_table(path, what=_WHAT, delimiter=named.delimiter)
        table = RawTable(source, table.columns, table.rows)
        columns = Columns(
            _find(table, named.user), _find(table, named.item),
            _find(table, named.rating) if named.rating else None,
            _find(table, named.timestamp) if named.timestamp else None,
            time=_time(table, named.timestamp) if named.timestamp else None,
        )  # fmt: skip
        rows, counted = clean(table, columns, duplicates=named.duplicates)
    report.tables.append(counted)
    types = {"user_id": "token", "item_id": "token", "rating": "float", TIMESTAMP: "float"}
    types = {name: kind for name, kind in types.items() if name in rows.columns}
    write_atomic(target / f"{report.name}.inter", rows, types)
    report.counts = {
        "users": rows["user_id"].n_unique(),
        "items": rows["item_id"].n_unique(),
        "interactions": len(rows),
    }
    content = {"load_col": {"inter": list(types)}}
    write_dataset_yaml(target, report, content)


def _find(table: RawTable, name: str) -> str:
    if len(table.columns) == 1:
        raise DataError(
            f"{table.path}: the header is one column, '{table.columns[0]}'; expected '{name}' and others: "
            "give the character between them by --delimiter"
        )
    return table.column(name)


def _time(table: RawTable, column: str) -> pl.Expr | None:
    """How to read dates, or None where the column holds numbers."""
    text = pl.col(column).str.strip_chars()
    dates = text.str.replace(" ", "T", literal=True).str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", strict=False)
    zoned = text.str.replace(" ", "T", literal=True).str.to_datetime("%+", strict=False, time_zone="UTC")
    days = text.str.to_datetime("%Y-%m-%d", strict=False)
    stamps = [dates.dt.timestamp("ms"), zoned.dt.timestamp("ms"), days.dt.timestamp("ms")]
    read = pl.coalesce(stamps) / 1000
    head = RawTable(table.path, table.columns, table.rows.head(_LOOK)).collect(text=column)["text"]
    looked = head.to_frame(column).select(as_number=number(column).count(), as_date=read.count()).row(0)
    return read if looked[1] > looked[0] else None


@contextlib.contextmanager
def _utf8(source: Path, encoding: str) -> Iterator[Path]:
    """The file itself, or a copy of it in UTF-8."""
    if encoding.lower().replace("_", "-") in {"utf-8", "utf8", "ascii"}:
        yield source
        return
    require(source, _WHAT)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "copy.csv"
        try:
            with (
                source.open(encoding=encoding, newline="") as file,
                path.open("w", encoding="utf-8", newline="") as copy,
            ):
                while block := file.read(_BLOCK):
                    copy.write(block)
        except LookupError as error:
            raise DataError(f"encoding '{encoding}': unknown; expected a name such as latin-1 or utf-16") from error
        except UnicodeError as error:
            raise DataError(f"{source}: not {encoding} ({error}); give its own encoding by --encoding") from error
        yield path
