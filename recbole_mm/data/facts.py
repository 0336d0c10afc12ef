"""Modalities from RecBole's own item fields: categories as multi-hot vectors, a number as overlapping bumps."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recbole_mm.errors import ConfigError, nearest
from recbole_mm.features import Features
from recbole_mm.modality import ModalitySpec


def read_fact(item_file: Path, item_field: str, spec: ModalitySpec, config: Any) -> Features:
    """Encode one column of an atomic ``.item`` file; an item whose cell is empty or unreadable gets no vector.

    Raises:
        ConfigError: the file or the column is missing.
    """
    tokens, cells = _column_of(item_file, item_field, spec, config)
    vectors, has, how = _encode(cells, cells, spec, config["seq_separator"])
    provenance = {"encoder": how, "source": f"{item_file.name}, column {spec.field}"}
    kept = tuple(t for t, h in zip(tokens, has, strict=True) if h)
    return Features(vectors[has], kept, provenance, f"{item_file}:{spec.field}")


def encode_new_cells(
    item_file: Path, item_field: str, spec: ModalitySpec, config: Any, cells: list[str]
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Vectors of items that came later, [n, F], by the data set's own words or range; and which have one, [n].

    Raises:
        ConfigError: the file or the column is missing.
    """
    known = _column_of(item_file, item_field, spec, config)[1]
    vectors, has, _ = _encode(cells, known, spec, config["seq_separator"])
    return vectors, has


def _column_of(item_file: Path, item_field: str, spec: ModalitySpec, config: Any) -> tuple[list[str], list[str]]:
    """Item tokens and the cells of the modality's column."""
    if not item_file.is_file():
        raise ConfigError(f"{item_file}: no such file; a modality with 'field: {spec.field}' needs the items' facts")
    table = read_items(item_file, config)
    for column in (item_field, spec.field):
        _check_column(table, str(column), item_file)
    table = table.drop_duplicates(item_field)  # RecBole keeps the first row of an item, too
    return table[item_field].tolist(), table[spec.field].tolist()


def _encode(
    cells: list[str], known: list[str], spec: ModalitySpec, separator: str
) -> tuple[NDArray[Any], NDArray[np.bool_], str]:
    encode = _multi_hot if spec.encoding == "multi_hot" else _bumps
    return encode(cells, known, spec, separator)


def read_item_column(item_file: Path, column: str, config: Any) -> list[str]:
    """One column of an atomic ``.item`` file as text.

    Raises:
        ConfigError: there is no such column.
    """
    table = read_items(item_file, config)
    _check_column(table, column, item_file)
    return [str(cell) for cell in table[column]]


def item_columns(item_file: Path, config: Any) -> list[str]:
    """Names of the columns of an atomic ``.item`` file."""
    return [str(c) for c in read_items(item_file, config).columns]


def read_items(item_file: Path, config: Any) -> pd.DataFrame:
    """An atomic ``.item`` file as text, columns by their names without types."""
    table = pd.read_csv(
        item_file, sep=config["field_separator"], dtype=str, keep_default_na=False, encoding=config["encoding"]
    )
    table.columns = pd.Index([str(c).split(":")[0] for c in table.columns])
    return table


def _check_column(table: pd.DataFrame, column: str, item_file: Path) -> None:
    if column not in table.columns:
        have = list(map(str, table.columns))
        raise ConfigError(f"{item_file}: no column '{column}' (columns: {', '.join(have)}){nearest(column, have)}")


def _multi_hot(
    cells: list[str], known: list[str], spec: ModalitySpec, separator: str
) -> tuple[NDArray[Any], NDArray[np.bool_], str]:
    words = [set(cell.split(separator)) - {""} for cell in cells]
    names = sorted(set().union(*(cell.split(separator) for cell in known)) - {""})
    if not names:
        raise ConfigError(f"field '{spec.field}' is empty for every item; expected words")
    vectors = np.array([[n in w for n in names] for w in words], dtype=np.float32)
    return vectors, vectors.any(axis=1), f"multi-hot over {len(names)} values"


def _bumps(
    cells: list[str], known: list[str], spec: ModalitySpec, separator: str
) -> tuple[NDArray[Any], NDArray[np.bool_], str]:
    """exp(-((x - c) / w)^2) for centres c at distance w."""
    del separator
    values, range_of = (pd.to_numeric(pd.Series(c), errors="coerce").to_numpy(dtype=float) for c in (cells, known))
    has = np.isfinite(values)
    numbers = range_of[np.isfinite(range_of)]
    if not len(numbers):
        raise ConfigError(f"field '{spec.field}' is a number for no item; bumps need numbers")
    first, last = spec.bump_range or (float(numbers.min()), float(numbers.max()))
    centres = np.arange(first, last + spec.bump_width / 2, spec.bump_width)
    vectors = np.exp(-(((np.nan_to_num(values)[:, None] - centres) / spec.bump_width) ** 2)).astype(np.float32)
    return (
        vectors,
        has,
        f"{len(centres)} bumps of width {spec.bump_width:g} from {first:g} to {centres[-1]:g}",
    )
