"""Registering feature files with a data set: what ``features add`` and ``extract`` share."""

from collections.abc import Mapping
from dataclasses import replace as changed
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from recbole_mm.errors import ConfigError, DataError, FeatureError
from recbole_mm.features import Features, align, write_feature_file


def feature_path(root: Path, dataset: str, modality: str) -> Path:
    """Where the feature file of a modality is written."""
    return root / dataset / f"{dataset}.{modality}.safetensors"


def item_tokens(root: Path, dataset: str) -> list[str]:
    """Item tokens of the data set's atomic files, in order of appearance.

    Raises:
        DataError: there are no atomic files, or no item column in them.
    """
    import pandas as pd

    folder = root / dataset if dataset != "ml-100k" else None
    files = [] if folder is None else [*sorted(folder.glob(f"{dataset}*.inter")), folder / f"{dataset}.item"]
    found: dict[str, None] = {}
    for file in (f for f in files if f.is_file()):
        head = file.open(encoding="utf-8").readline().rstrip("\n").split("\t")
        column = next((c for c in head if c.split(":")[0] in {"item_id", "itemID"}), None)
        if column is None:
            raise DataError(f"{file}: no column item_id (columns: {', '.join(head)})")
        found.update(dict.fromkeys(pd.read_csv(file, sep="\t", usecols=[column], dtype=str)[column].dropna()))
    if not found:
        raise DataError(f"{root / dataset}: no items in {dataset}.inter or {dataset}.item; expected atomic files")
    return list(found)


def registered(root: Path, dataset: str) -> dict[str, Any]:
    """The data set's modalities by name."""
    from recbole_mm.config import dataset_file, modalities_file, read_yaml
    from recbole_mm.modality import parse_modalities
    from recbole_mm.resources import shipped

    found: dict[str, Any] = {}
    shipped_file = shipped(f"properties/dataset/{dataset}.yaml")
    for layer in (shipped_file, dataset_file(root, dataset), modalities_file(root, dataset)):
        if layer.is_file():
            found.update(read_yaml(layer).get("modalities") or {})
    parse_modalities(found)
    return found


def check_modality(root: Path, dataset: str, modality: str, *, replace: bool) -> None:
    """Refuse a name that cannot be a field, or that is taken.

    Raises:
        ConfigError: it is one of these.
    """
    if not modality.isidentifier():
        raise ConfigError(f"modality '{modality}': expected a name of letters, digits and underscores")
    if modality in registered(root, dataset) and not replace:
        raise ConfigError(f"modality '{modality}' is registered for '{dataset}' already; --replace replaces it")


def store(
    root: Path, dataset: str, modality: str, features: Features, facts: Mapping[str, str], *, allow_unknown: bool
) -> str:
    """Check features against the data set's items, write them beside it, register them, and say so in a line.

    Raises:
        FeatureError: the features cannot be used, or cover unknown items.
    """
    features.check_values()
    catalogue = item_tokens(root, dataset)
    align(features, ["[PAD]", *catalogue])
    unknown = sorted(set(features.tokens) - set(catalogue))
    if unknown and not allow_unknown:
        raise FeatureError(
            f"{features.name}: {len(unknown)} of {len(features.tokens)} item tokens are not items of '{dataset}' "
            f"(first: '{unknown[0]}'); --allow_unknown keeps them"
        )
    covered = len(set(features.tokens) & set(catalogue))
    provenance = {
        "source": Path(features.name).name,
        "date": datetime.now(UTC).date().isoformat(),
        **features.provenance,
        **facts,
        "coverage": f"{covered} of {len(catalogue)} items",
    }
    target = feature_path(root, dataset, modality)
    write_feature_file(target, changed(features, provenance=provenance))
    entry: dict[str, Any] = {"file": target.name}
    if unknown:
        entry["allow_unknown"] = True
    _register(root, dataset, modality, entry)
    parts = "" if features.segments is None else f"{len(features.segments.vectors)} segments, "
    return (
        f"registered '{modality}' for '{dataset}': {covered} of {len(catalogue)} items, width {features.width}, "
        f"{parts}{target}"
    )


def _register(root: Path, dataset: str, modality: str, entry: dict[str, Any]) -> None:
    import yaml

    from recbole_mm.config import modalities_file, read_yaml
    from recbole_mm.files import write_text

    path = modalities_file(root, dataset)
    entries = (read_yaml(path).get("modalities") or {}) if path.is_file() else {}
    entries[modality] = entry
    text = yaml.safe_dump({"modalities": entries}, sort_keys=False, allow_unicode=True)
    write_text(path, "# Written by 'recbole-mm features add' and 'extract'; read after properties/dataset.\n" + text)
