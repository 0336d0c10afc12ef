"""Vectors of new items, by the very encoders that the run's features say they were made with."""

import importlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from recbole_mm.errors import ConfigError, RecBoleMMError, nearest
from recbole_mm.features import Features
from recbole_mm.recommend.new_items import Row

_COLUMN = r"\{(\w+)\}"
# what the shipped features were made from; other text features say it in their provenance, or by --text
TEMPLATES = {"text": "{plot}", "credits": "{genres}. {director}. {actors}"}


@dataclass(frozen=True)
class Sources:
    """Where new items' raw media are: a text template, a folder of files, a local checkpoint; each by modality.

    ``posters`` is the folder of whatever the run made from images, by whichever name, unless ``folders`` has another.
    """

    templates: Mapping[str, str] = field(default_factory=dict)
    folders: Mapping[str, Path] = field(default_factory=dict)
    checkpoints: Mapping[str, Path] = field(default_factory=dict)
    posters: Path | None = None

    def check(self, modalities: Sequence[str]) -> None:
        """Refuse names that the run does not have.

        Raises:
            ConfigError: an unknown modality, or no such folder.
        """
        for given in (self.templates, self.folders, self.checkpoints):
            for name in given:
                if name not in modalities:
                    raise ConfigError(f"no modality '{name}' in the run{nearest(name, modalities)}")
        wanted = {**({} if self.posters is None else {"posters": self.posters}), **self.folders}
        for name, folder in wanted.items():
            if not folder.is_dir():
                raise ConfigError(f"{folder}: no such folder; expected one with the files of '{name}'")


@dataclass(frozen=True)
class Encoded:
    """Vectors by modality, and one line for everything that has none."""

    features: Mapping[str, Features]
    warnings: Sequence[str]


def encode(rows: Sequence[Row], provenance: Mapping[str, Mapping[str, Any]], sources: Sources) -> Encoded:
    """Encode new items by each modality of the run; one that cannot be encoded is masked, and said.

    Args:
        rows: the new items.
        provenance: of the run's feature files by modality; facts, which need no encoder, left out.
        sources: where the raw media are.
    """
    sources.check(list(provenance))
    features: dict[str, Features] = {}
    warnings: list[str] = []
    for name, facts in provenance.items():
        try:
            vectors, mask, reasons = _encode(name, rows, facts, sources)
        except (RecBoleMMError, ImportError) as error:
            warnings.append(f"modality '{name}' is masked for all new items: {error}")
            continue
        warnings += [
            f"modality '{name}' of '{rows[r].token}' is masked: {why}" for r, why in reasons.items() if not mask[r]
        ]
        if mask.any():
            tokens = tuple(row.token for row, has in zip(rows, mask, strict=True) if has)
            features[name] = Features(vectors[mask], tokens, {k: str(v) for k, v in facts.items()}, name)
    return Encoded(features, warnings)


def _encode(
    name: str, rows: Sequence[Row], facts: Mapping[str, Any], sources: Sources
) -> tuple[Any, Any, dict[int, str]]:
    """Vectors [n, F], mask [n] and why rows have none."""
    extraction = importlib.import_module("recbole_mm.extraction")
    encoder = extraction.encoder_from_provenance(
        {key: str(value) for key, value in facts.items()}, checkpoint=sources.checkpoints.get(name)
    )
    if encoder.modality == "text":
        template = sources.templates.get(name) or facts.get("template") or TEMPLATES.get(name)
        if template is None:
            raise ConfigError(f"its text is not known; give it by --text {name}='{{plot}}'")
        given: list[str | Path | None] = [_filled(str(template), row) or None for row in rows]
        missing = "none of its text's columns is filled"
    else:
        folder = sources.folders.get(name) or (sources.posters if encoder.modality == "image" else None)
        if folder is None:
            raise ConfigError(f"no folder of its files was given (--posters, or --media {name}=DIR)")
        files = _files(folder)
        given = [_file(row, files) for row in rows]
        missing = f"no file of its id in {folder}"
    present = [index for index, source in enumerate(given) if source is not None]
    vectors, mask = np.zeros((len(rows), encoder.width), np.float32), np.zeros(len(rows), dtype=bool)
    reasons = {index: missing for index in range(len(rows)) if given[index] is None}
    if present:
        encoded = encoder.encode([given[index] for index in present])
        vectors[present], mask[present] = encoded.vectors, encoded.mask
        reasons |= {present[row]: why for row, why in encoded.reasons.items()}
    return vectors, mask, reasons


def _filled(template: str, row: Row) -> str:
    """The template with the item's columns in their places; empty if none of them is filled."""
    cells = {**row.cells, "genres": ", ".join(row.genres), "title": row.title, "year": row.year or ""}
    named = re.findall(_COLUMN, template)
    if not any(cells.get(name) for name in named):
        return ""
    return re.sub(_COLUMN, lambda found: str(cells.get(found[1], "")), template).strip()


def _files(folder: Path) -> dict[str, Path]:
    """The folder's files by name and by name without suffix."""
    found = [path for path in sorted(folder.iterdir()) if path.is_file()]
    return {**{path.stem: path for path in found}, **{path.name: path for path in found}}


def _file(row: Row, files: Mapping[str, Path]) -> Path | None:
    """By the column ``poster``, the token, or any other id of the item."""
    ids = [cell for column, cell in row.cells.items() if column.endswith("_id") and cell]
    wanted = [Path(row.cells.get("poster") or row.token).name, row.token, *ids]
    return next((files[name] for name in wanted if name in files), None)
