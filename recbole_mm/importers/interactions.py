"""Cleaning a raw table of interactions in one streamed pass: every row is kept, or dropped for a reason."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recbole_mm.errors import DataError
from recbole_mm.importers.raw import SURPLUS, RawTable, read
from recbole_mm.importers.report import Dropped, TableReport

USER, ITEM, TIMESTAMP = "user_id", "item_id", "timestamp"
# pandas, by which RecBole reads atomic files, takes these words for a missing value; [PAD] is RecBole's own
_RESERVED = (
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
    "NULL", "NaN", "None", "n/a", "nan", "null", "[PAD]",
)  # fmt: skip
UNUSABLE = "that no atomic file can hold (control character, or a word such as NA)"

Rule = tuple[str, pl.Expr]  # why a row is dropped, and where: over the cleaned columns


@dataclass(frozen=True)
class Columns:
    """Names of a raw table's columns of interactions; ``value`` is written as ``value_field``."""

    user: str
    item: str
    value: str | None = None
    timestamp: str | None = None
    value_field: str = "rating"
    extra: Mapping[str, str] = field(default_factory=dict)  # further columns of numbers: new name -> raw name
    time: pl.Expr | None = None  # how the timestamp's text is read, if not as a number of seconds


def unusable_token(expression: pl.Expr) -> pl.Expr:
    """True where text cannot be an atomic file's token: a control character, or a word that means "missing"."""
    return expression.str.contains(r"\p{Cc}") | expression.is_in(_RESERVED)


def number(column: str) -> pl.Expr:
    """Text as a number, or null; white space around it does not matter."""
    return pl.col(column).str.strip_chars().cast(pl.Float64, strict=False)


def clean(
    table: RawTable, columns: Columns, *, rules: Sequence[Rule] = (), duplicates: str = "last"
) -> tuple[pl.DataFrame, TableReport]:
    """Read, check and deduplicate.

    Only what is compact leaves the streamed pass: ids as codes, numbers, and whether a row has surplus fields. The ids
    themselves are checked once each, not once a row.

    Args:
        table: the raw table.
        columns: which of its columns are what.
        rules: further reasons to drop a row.
        duplicates: of several rows of one user and item, ``last`` keeps the latest (by time, then by row), ``first``
            the earliest, ``all`` every one.

    Returns:
        ``user_id`` and ``item_id`` (categorical), and, where there are such columns, the value and ``timestamp``
        (float), in the file's order; and the count of what was dropped.

    Raises:
        DataError: the file cannot be read, or nothing is left.
    """
    frame = _read(table, columns)
    surplus = frame.drop_in_place(SURPLUS)
    frame = frame.with_columns(_stripped(frame[USER]), _stripped(frame[ITEM]))
    keep = np.ones(len(frame), dtype=bool)
    dropped = []
    for reason, where in [("more fields than the header has", surplus), *_masks(frame, columns, rules)]:
        if where.any():
            new = where.to_numpy() & keep
            dropped.append(_count(reason, new))
            keep &= ~new
    if duplicates != "all":
        repeated = _repeated(frame, keep, latest=duplicates == "last")
        keep &= ~repeated
        dropped.append(_count(f"repeats a user and item ({duplicates} kept)", repeated))
    report = TableReport(table.path.name, len(frame), int(keep.sum()), tuple(d for d in dropped if d.rows))
    if not keep.any():
        raise DataError(_nothing_left(table, report))
    return (frame if keep.all() else frame.filter(pl.Series(keep))), report


def _read(table: RawTable, columns: Columns) -> pl.DataFrame:
    wanted = [
        pl.col(columns.user).cast(pl.Categorical).alias(USER),
        pl.col(columns.item).cast(pl.Categorical).alias(ITEM),
        pl.col(SURPLUS).is_not_null(),
    ]
    if columns.value is not None:
        wanted.append(number(columns.value).alias(columns.value_field))
    if columns.timestamp is not None:
        time = number(columns.timestamp) if columns.time is None else columns.time
        wanted.append(time.alias(TIMESTAMP))
    wanted += [number(raw).alias(name) for name, raw in columns.extra.items()]
    return read(table.rows.select(wanted), table.path)


def _stripped(ids: pl.Series) -> pl.Series:
    """Ids without white space around them; null where nothing is left."""
    known = ids.unique().cast(pl.String).drop_nulls()
    if (known == known.str.strip_chars()).all():
        return ids
    text = ids.cast(pl.String).str.strip_chars()
    return text.set(text == "", None).cast(pl.Categorical)


def _masks(frame: pl.DataFrame, columns: Columns, rules: Sequence[Rule]) -> Iterator[tuple[str, pl.Series]]:
    empty = frame.select(pl.all_horizontal(pl.all().is_null())).to_series()
    yield "empty row", empty
    for column, raw in ((USER, columns.user), (ITEM, columns.item)):
        yield f"no {raw}", frame[column].is_null()
        known = frame[column].unique().drop_nulls()
        bad = known.filter(known.cast(pl.String).to_frame().select(unusable_token(pl.col(column))).to_series())
        none = pl.repeat(False, len(frame), eager=True)
        yield f"{raw} {UNUSABLE}", frame[column].is_in(bad.implode()).fill_null(False) if len(bad) else none
    numbers = ((columns.value_field, columns.value), (TIMESTAMP, columns.timestamp), *columns.extra.items())
    for column, raw_number in numbers:
        if raw_number is not None:
            yield f"{raw_number} is not a finite number", ~frame[column].is_finite().fill_null(False)
    for reason, where in rules:
        yield reason, frame.select(where.fill_null(False)).to_series()


def _repeated(frame: pl.DataFrame, keep: NDArray[np.bool_], *, latest: bool) -> NDArray[np.bool_]:
    """True on the rows that lose against another row of the same user and item, [rows]."""
    lost = np.zeros(len(keep), dtype=bool)
    kept = np.flatnonzero(keep)
    pair = _codes(frame[USER])[kept].astype(np.uint64) << np.uint64(32) | _codes(frame[ITEM])[kept]
    pairs = pl.Series(pair)
    ordered = pairs.sort()
    twice = ordered.filter(ordered == ordered.shift(1)).unique()
    if twice.is_empty():
        return lost
    rivals = np.flatnonzero(pairs.is_in(twice.implode()).to_numpy())
    rivals = rivals[np.argsort(pair[rivals], kind="stable")]
    starts = np.flatnonzero(np.append(True, pair[rivals[1:]] != pair[rivals[:-1]]))
    sizes = np.diff(np.append(starts, len(rivals)))
    times = frame[TIMESTAMP].to_numpy()[kept[rivals]] if TIMESTAMP in frame.columns else np.zeros(len(rivals))
    best, never = (np.maximum, -1) if latest else (np.minimum, len(pair))
    at_best_time = times == np.repeat(best.reduceat(times, starts), sizes)
    winners = best.reduceat(np.where(at_best_time, rivals, never), starts)
    lost[kept[rivals]] = True
    lost[kept[winners]] = False
    return lost


def _codes(ids: pl.Series) -> NDArray[np.uint32]:
    return ids.to_physical().fill_null(0).to_numpy()


def _count(reason: str, where: NDArray[np.bool_]) -> Dropped:
    rows = int(np.count_nonzero(where))
    return Dropped(reason, rows, int(np.argmax(where)) + 1 if rows else 0)


def _nothing_left(table: RawTable, report: TableReport) -> str:
    if not report.rows:
        return f"{table.path}: a header and no rows; expected interactions"
    why = "; ".join(f"{d.rows} x {d.reason} (first: row {d.first_row})" for d in report.dropped)
    return f"{table.path}: none of its {report.rows} rows can be used: {why}"
