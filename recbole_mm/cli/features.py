"""``recbole-mm features add | show | export``: register feature files with a data set, and look at them."""

from pathlib import Path

import click

from recbole_mm.errors import ConfigError, nearest

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
    from recbole_mm.cli import pairs
    from recbole_mm.cli.registry import check_modality, store
    from recbole_mm.data import prepare_files
    from recbole_mm.feature_formats import read_features

    root = Path(data_path)
    facts = pairs(provenance, "--provenance", "encoder=MiniLM-L6")
    prepare_files(dataset, root)
    check_modality(root, dataset, modality, replace=replace)
    loaded = read_features(Path(source), Path(ids) if ids else None)
    click.echo(store(root, dataset, modality, loaded, facts, allow_unknown=allow_unknown))


@features.command()
@_DATASET
@click.option("--modality", help="One modality only.")
@_DATA_PATH
def show(dataset: str, modality: str | None, data_path: str) -> None:
    """Print shape, coverage, provenance and simple statistics of a data set's modalities."""
    from recbole_mm.cli.feature_table import print_features
    from recbole_mm.cli.registry import item_tokens, registered
    from recbole_mm.data import prepare_files

    root = Path(data_path)
    prepare_files(dataset, root)
    found = registered(root, dataset)
    if modality is not None:
        if modality not in found:
            have = ", ".join(found) or "none"
            raise ConfigError(f"modality '{modality}' is not registered (registered: {have}){nearest(modality, found)}")
        found = {modality: found[modality]}
    if not found:
        raise ConfigError(f"no modality is registered for '{dataset}'; add one with 'recbole-mm features add'")
    print_features(root / dataset, dataset, found, item_tokens(root, dataset))


@features.command()
@_DATASET
@click.option("--modality", required=True)
@click.option("--file", "target", required=True, help="Text file to write.")
@_DATA_PATH
def export(dataset: str, modality: str, target: str, data_path: str) -> None:
    """Write a modality in RecBole's text form, for plain RecBole."""
    from recbole_mm.cli.registry import registered
    from recbole_mm.feature_formats import read_features, write_recbole_text

    root = Path(data_path)
    entry = registered(root, dataset).get(modality, {})
    if "file" not in entry:
        raise ConfigError(f"modality '{modality}' of '{dataset}' has no feature file to export")
    loaded = read_features(root / dataset / entry["file"])
    write_recbole_text(Path(target), loaded, item_field="item_id", modality=modality)
    click.echo(f"wrote {len(loaded.tokens)} rows to {target}")
