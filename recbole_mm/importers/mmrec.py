"""A data set in MMRec's file format: a split ``.inter`` table and features in the items' row order."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import polars as pl

from recbole_mm.errors import DataError
from recbole_mm.feature_formats import read_features
from recbole_mm.features import write_feature_file
from recbole_mm.importers.atomic import write_atomic, write_dataset_yaml
from recbole_mm.importers.interactions import Columns, clean
from recbole_mm.importers.raw import open_table, require
from recbole_mm.importers.report import ImportReport

KIND = "mmrec"
_PART = "x_label"
PARTS = ("train", "valid", "test")  # x_label 0, 1, 2
_WHAT = "userID, itemID, rating and x_label, separated by tabs"
_GRAPH = "user_graph_dict.npy"  # a pickle, which is rebuilt where it is needed and never read
_IMPUTED = "missed_img_itemIDs.csv"
_MODALITY_OF = {"image_feat": "image", "text_feat": "text", "audio_feat": "audio", "video_feat": "video"}


def build(target: Path, source: Path, report: ImportReport, names: Mapping[str, str] | None = None) -> None:
    """Write ``.train``, ``.valid`` and ``.test.inter``, feature files and the YAML into ``target``.

    Args:
        target: an empty folder.
        source: the folder with one ``.inter`` and any number of ``.npy`` files.
        report: what is read, kept and dropped is noted here.
        names: the modality's name by file name; by default ``image_feat.npy`` is image, ``text_feat.npy`` text, and
            any other file is called by its own name.

    Raises:
        DataError: there is not one ``.inter`` file, or nothing is left of it.
        FeatureError: a ``.npy`` file is no array of numbers, or has fewer rows than there are items.
    """
    inter = _inter_file(source)
    table = open_table(inter, what=_WHAT, delimiter="\t", quotes=False)
    columns = Columns(
        table.column("userID"), table.column("itemID"), table.optional("rating"), table.optional("timestamp"),
        extra={_PART: table.column(_PART)},
    )  # fmt: skip
    # the first of a pair is kept: one that stands in two parts would be known to the model that is tested on it
    rules = [(f"{_PART} is not 0, 1 or 2", ~pl.col(_PART).is_in([0.0, 1.0, 2.0]))]
    rows, counted = clean(table, columns, duplicates="first", rules=rules)
    report.tables.append(counted)
    types = {"user_id": "token", "item_id": "token", "rating": "float", "timestamp": "float"}
    types = {k: v for k, v in types.items() if k in rows.columns}
    for label, name in enumerate(PARTS):
        chosen = rows.filter(pl.col(_PART) == label)
        if chosen.is_empty():
            raise DataError(f"{inter}: no row has {_PART} {label}; expected 0 (train), 1 (valid) and 2 (test)")
        write_atomic(target / f"{report.name}.{name}.inter", chosen, types)
        report.counts[f"{name} interactions"] = len(chosen)
    items = rows["item_id"].unique().cast(pl.String)
    report.counts = {"users": rows["user_id"].n_unique(), "items": len(items), **report.counts}
    modalities = _features(target, source, report, set(items), names or {})
    content = {
        "load_col": {"inter": list(types)},
        "benchmark_filename": list(PARTS),
        "modalities": modalities,
    }
    write_dataset_yaml(target, report, content)


def _inter_file(source: Path) -> Path:
    found = sorted(source.glob("*.inter")) if source.is_dir() else []
    if len(found) != 1:
        have = ", ".join(f.name for f in found) or "none"
        raise DataError(f"{source}: expected a folder with one .inter file ({have})")
    return found[0]


def _features(
    target: Path, source: Path, report: ImportReport, items: set[str], names: Mapping[str, str]
) -> dict[str, dict[str, str]]:
    """Row r is item r; rows of items that nobody has touched, or that stand for a missing image, are left out."""
    registered: dict[str, dict[str, str]] = {}
    for named in names:
        require(source / named, "a .npy file of vectors in the items' order")
    for file in sorted(source.glob("*.npy")):
        if file.name == _GRAPH:
            report.notes.append(f"{_GRAPH} is a pickle and is not read; models that need it rebuild it")
            continue
        features = read_features(file)
        modality = names.get(file.name) or _modality(file.stem)
        if modality in registered:
            raise DataError(f"{file}: '{modality}' is the name of another file, too; name them by --modality NAME=FILE")
        wanted = items - _imputed(source, report) if modality == "image" else items
        rows = [row for row, token in enumerate(features.tokens) if token in wanted]
        if len(rows) < len(items):
            report.notes.append(f"{file.name}: {len(items) - len(rows)} items have no row; they are masked")
        kept = replace(
            features,
            vectors=features.vectors[rows],
            tokens=tuple(features.tokens[r] for r in rows),
            provenance={
                "encoder": file.stem, "source": f"MMRec folder {source.resolve().name}, {file.name}",
                "coverage": f"{len(rows)} of {len(items)} items",
            },
        )  # fmt: skip
        name = f"{report.name}.{modality}.safetensors"
        write_feature_file(target / name, kept)
        registered[modality] = {"file": name}
    if not registered:
        report.notes.append("no .npy file is there; no modality is registered")
    return registered


def _imputed(source: Path, report: ImportReport) -> set[str]:
    """Items whose image is the mean of the others': they have none."""
    path = source / _IMPUTED
    if not path.is_file():
        return set()
    listed = re.findall(r"^\s*(\d+)\b", path.read_text(encoding="utf-8-sig"), flags=re.MULTILINE)
    report.notes.append(f"{_IMPUTED}: {len(listed)} items have a made-up image vector; they are masked")
    return set(listed)


def _modality(stem: str) -> str:
    """The modality's name: MMRec's own names mean text and image, others are kept as a word."""
    plain = "".join(c if c.isalnum() else "_" for c in stem.lower())
    return _MODALITY_OF.get(plain, plain if plain[0].isalpha() else f"features_{plain}")
