"""RecBole's atomic files and the data set YAML, written by polars."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from recbole_mm.files import write_text
from recbole_mm.importers.report import ImportReport

_EXACT = 2**53  # beyond it a float holds no exact whole number
_NOT_IN_A_WORD = r"[\s\p{Cc}]+"


def write_atomic(path: Path, frame: pl.DataFrame, types: Mapping[str, str]) -> None:
    """Write columns as an atomic file with RecBole's typed header; whole numbers without a decimal point.

    Args:
        path: the ``.inter`` or ``.item`` file.
        frame: the columns; a null becomes an empty cell.
        types: RecBole's type of each column that is written, in the order of writing.
    """
    columns = [_plain(frame[name]).alias(f"{name}:{kind}") for name, kind in types.items()]
    pl.DataFrame(columns).lazy().sink_csv(path, separator="\t", quote_style="necessary", engine="streaming")


def _plain(column: pl.Series) -> pl.Series:
    if not column.dtype.is_float() or column.null_count() == len(column):
        return column
    low, high = column.min(), column.max()
    whole = low > -_EXACT and high < _EXACT and bool((column == column.round()).all())  # type: ignore[operator]
    return column.cast(pl.Int64) if whole else column


def words(names: pl.Expr) -> pl.Expr:
    """A column of lists as ``token_seq``: separated by spaces, with ``_`` for the spaces inside a name."""
    name = pl.element().str.strip_chars().str.replace_all(_NOT_IN_A_WORD, "_")
    return names.list.eval(name.filter(name != "").unique(maintain_order=True)).list.join(" ")


def line(text: pl.Expr) -> pl.Expr:
    """Text on one line."""
    return text.str.replace_all(_NOT_IN_A_WORD, " ").str.strip_chars()


def year(text: pl.Expr) -> pl.Expr:
    """The first year, 1800 to 2099, in a text, or null."""
    return text.str.extract(r"(?:^|\D)(1[89]\d\d|20\d\d)(?:\D|$)").cast(pl.Int64)


def write_dataset_yaml(folder: Path, report: ImportReport, content: Mapping[str, Any]) -> None:
    """Write ``<name>.yaml``, which is read when the data set is trained on, and note its modalities."""
    report.modalities = list(content.get("modalities") or ())
    text = yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True, default_flow_style=None, width=120)
    head = f"# Written by 'recbole-mm import {report.kind}'; <name>.modalities.yaml adds to it.\n"
    write_text(folder / f"{report.name}.yaml", head + text)
