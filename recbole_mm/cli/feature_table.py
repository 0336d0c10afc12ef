"""A data set's modalities as a table: shape, coverage, statistics, provenance."""

from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from recbole_mm.cli.console import make_console
from recbole_mm.data.facts import read_fact
from recbole_mm.feature_formats import read_features
from recbole_mm.features import Features
from recbole_mm.modality import parse_modalities

_ATOMIC = {"field_separator": "\t", "seq_separator": " ", "encoding": "utf-8"}
_SAMPLE = 4096  # rows that the statistics are taken from


def print_features(folder: Path, dataset: str, registered: dict[str, Any], items: list[str]) -> None:
    """Print one row a modality, then where each comes from."""
    console = make_console()
    table = Table(title=f"modalities of {dataset} ({len(items)} items)", title_justify="left", title_style="bold")
    for column in (
        "modality",
        "vectors",
        "segments",
        "type",
        "items covered",
        "mean",
        "std",
        "norm",
        "zero rows",
        "not finite",
    ):
        table.add_column(column, justify="left" if column in {"modality", "type"} else "right")
    loaded = {}
    for name, spec in parse_modalities(registered).items():
        if spec.field is not None:
            loaded[name] = read_fact(folder / f"{dataset}.item", "item_id", spec, _ATOMIC)
        else:
            loaded[name] = read_features(folder / str(spec.file), folder / spec.ids if spec.ids else None)
        table.add_row(name, *_row(loaded[name], set(items)))
    console.print(table)
    for name, features in loaded.items():
        facts = "; ".join(f"{k}: {v}" for k, v in sorted(features.provenance.items())) or "no provenance"
        console.print(f"[bold]{name}[/bold]  {facts}", highlight=False, soft_wrap=True)


def _row(features: Features, items: set[str]) -> list[str]:
    """Statistics over an even sample of rows where there are many."""
    n = len(features.tokens)
    rows = np.unique(np.linspace(0, max(n - 1, 0), min(n, _SAMPLE)).astype(int)) if n else np.array([], dtype=int)
    values = np.asarray(features.vectors[rows], dtype=np.float64)
    finite = np.isfinite(values)
    kept = values[finite] if values.size else np.zeros(1)
    norms = np.linalg.norm(np.where(finite, values, 0), axis=1) if n else np.zeros(1)
    covered = len(items & set(features.tokens))
    parts = "" if features.segments is None else str(len(features.segments.vectors))
    return [
        f"{n} x {features.width}", parts, str(features.vectors.dtype),
        f"{covered} ({covered / max(len(items), 1):.1%})", f"{kept.mean():.4f}", f"{kept.std():.4f}",
        f"{norms.mean():.3f}", str(int((norms == 0).sum())), str(int((~finite).sum())),
    ]  # fmt: skip
