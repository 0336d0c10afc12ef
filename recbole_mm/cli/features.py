"""``recbole-mm features add | show | export``: register feature files with a data set, and look at them."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from recbole_mm.errors import ConfigError, DataError, FeatureError, nearest

_DATA_PATH = click.option("--data_path", default="dataset", show_default=True, help="Folder of the data sets' folders.")
_DATASET = click.option("--dataset", required=True, help="Name of the data set.")


@click.group()
def features() -> None:
    """Register feature files with a data set, and look at them."""


@features.command()
@_DATASET
@click.option("--modality", required=True, help="Name to register it by: text, image, audio, or any other.")
@click.option("--file", "source", required=True, help=".safetensors, .npz (ids, x), .npy, or RecBole's float_seq text.")
@click.option("--ids", help="Item tokens by row, for a .npy file; without it, row number = item token (MMRec).")
@click.option("--provenance", multiple=True, metavar="KEY=VALUE", help="encoder, checkpoint, source, licence, ...")
@click.option("--allow_unknown", is_flag=True, help="The file covers more items than the data set has.")
@click.option("--replace", is_flag=True, help="Replace the modality if it is registered already.")
@_DATA_PATH
def add(
    dataset: str, modality: str, source: str, ids: str | None, provenance: tuple[str, ...],
    allow_unknown: bool, replace: bool, data_path: str,
) -> None:  # fmt: skip
    """Check a feature file, copy it beside the data set, and register it."""
    from dataclasses import replace as changed

    from recbole_mm.cli import pairs
    from recbole_mm.data import prepare_files
    from recbole_mm.feature_formats import read_features
    from recbole_mm.features import align, write_feature_file

    if not modality.isidentifier():
        raise ConfigError(f"modality '{modality}': expected a name of letters, digits and underscores")
    root = Path(data_path)
    prepare_files(dataset, root)
    registered = _registered(root, dataset)
    if modality in registered and not replace:
        raise ConfigError(f"modality '{modality}' is registered for '{dataset}' already; --replace replaces it")
    loaded = read_features(Path(source), Path(ids) if ids else None)
    loaded.check_values()
    catalogue = item_tokens(root, dataset)
    align(loaded, ["[PAD]", *catalogue])
    unknown = sorted(set(loaded.tokens) - set(catalogue))
    if unknown and not allow_unknown:
        raise FeatureError(
            f"{source}: {len(unknown)} of {len(loaded.tokens)} item tokens are not items of '{dataset}' "
            f"(first: '{unknown[0]}'); --allow_unknown keeps them"
        )
    covered = len(set(loaded.tokens) & set(catalogue))
    facts = {
        "source": Path(source).name,
        "date": datetime.now(UTC).date().isoformat(),
        **loaded.provenance,
        **pairs(provenance, "--provenance", "encoder=MiniLM-L6"),
        "coverage": f"{covered} of {len(catalogue)} items",
    }
    target = root / dataset / f"{dataset}.{modality}.safetensors"
    write_feature_file(target, changed(loaded, provenance=facts))
    entry: dict[str, Any] = {"file": target.name}
    if unknown:
        entry["allow_unknown"] = True
    _register(root, dataset, modality, entry)
    click.echo(
        f"registered '{modality}' for '{dataset}': {covered} of {len(catalogue)} items, width {loaded.width}, {target}"
    )


@features.command()
@_DATASET
@click.option("--modality", help="One modality only.")
@_DATA_PATH
def show(dataset: str, modality: str | None, data_path: str) -> None:
    """Print shape, coverage, provenance and simple statistics of a data set's modalities."""
    from recbole_mm.cli.feature_table import print_features
    from recbole_mm.data import prepare_files

    root = Path(data_path)
    prepare_files(dataset, root)
    registered = _registered(root, dataset)
    if modality is not None:
        if modality not in registered:
            have = ", ".join(registered) or "none"
            raise ConfigError(
                f"modality '{modality}' is not registered (registered: {have}){nearest(modality, registered)}"
            )
        registered = {modality: registered[modality]}
    if not registered:
        raise ConfigError(f"no modality is registered for '{dataset}'; add one with 'recbole-mm features add'")
    print_features(root / dataset, dataset, registered, item_tokens(root, dataset))


@features.command()
@_DATASET
@click.option("--modality", required=True)
@click.option("--file", "target", required=True, help="Text file to write.")
@_DATA_PATH
def export(dataset: str, modality: str, target: str, data_path: str) -> None:
    """Write a modality in RecBole's text form, for plain RecBole."""
    from recbole_mm.feature_formats import read_features, write_recbole_text

    root = Path(data_path)
    entry = _registered(root, dataset).get(modality, {})
    if "file" not in entry:
        raise ConfigError(f"modality '{modality}' of '{dataset}' has no feature file to export")
    loaded = read_features(root / dataset / entry["file"])
    write_recbole_text(Path(target), loaded, item_field="item_id", modality=modality)
    click.echo(f"wrote {len(loaded.tokens)} rows to {target}")


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


def _registered(root: Path, dataset: str) -> dict[str, Any]:
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


def _register(root: Path, dataset: str, modality: str, entry: dict[str, Any]) -> None:
    import yaml

    from recbole_mm.config import modalities_file, read_yaml
    from recbole_mm.files import write_text

    path = modalities_file(root, dataset)
    entries = (read_yaml(path).get("modalities") or {}) if path.is_file() else {}
    entries[modality] = entry
    text = yaml.safe_dump({"modalities": entries}, sort_keys=False, allow_unicode=True)
    write_text(path, "# Written by 'recbole-mm features add'; read after properties/dataset.\n" + text)
