"""``recbole-mm add-items``: films that came after training, scored without training again."""

from pathlib import Path

import click

from recbole_mm.cli.recommend import RUN


@click.command("add-items")
@RUN
@click.option("--items", required=True, metavar="CSV", help="item_id, title, year, genres (a|b), plot, director, ...")
@click.option("--posters", metavar="DIR", help="Posters, named by item_id, another id, or the column poster.")
@click.option("--media", multiple=True, metavar="MODALITY=DIR", help="Files of another modality; repeat it.")
@click.option("--text", multiple=True, metavar="MODALITY=TEMPLATE", help="A text modality's text: text='{plot}'.")
@click.option("--checkpoint", multiple=True, metavar="MODALITY=PATH", help="Local weights of a modality's encoder.")
def add_items(
    run_dir: str, items: str, posters: str | None, media: tuple[str, ...], text: tuple[str, ...],
    checkpoint: tuple[str, ...],
) -> None:  # fmt: skip
    """Encode new films by the run's own encoders and add them to what it recommends."""
    from recbole_mm.cli import pairs
    from recbole_mm.config import read_yaml
    from recbole_mm.modality import parse_modalities
    from recbole_mm.recommend import new_items, store
    from recbole_mm.recommend.encode_new import Sources, encode
    from recbole_mm.recommend.export import export
    from recbole_mm.run_directory import CONFIG, read_result

    where = Path(run_dir)
    store.source_digest(where)  # a finished run
    specs = parse_modalities(read_yaml(where / CONFIG).get("modalities"))
    facts = [name for name, spec in specs.items() if spec.field is not None]
    provenance = {k: v for k, v in read_result(where).get("features", {}).items() if k in specs and k not in facts}
    folders = {name: Path(folder) for name, folder in pairs(media, "--media", "image=posters").items()}
    local = pairs(checkpoint, "--checkpoint", "image=resnet50.safetensors")
    weights = {name: Path(path) for name, path in local.items()}
    if store.read(where) is None:
        export(where)
    opened = store.read(where)
    assert opened is not None, "written above"
    rows = new_items.read_rows(Path(items), set(opened.catalogue.tokens))
    templates = pairs(text, "--text", "text={plot}")
    given = Sources(templates, folders, weights, None if posters is None else Path(posters))
    encoded = encode(rows, provenance, given)
    new_items.add(where, rows, encoded.features)
    for warning in (*new_items.unknown_genres(rows, opened.catalogue.genres), *encoded.warnings):
        click.echo(f"warning: {' '.join(warning.split())}", err=True)
    counts = [f"{name} {len(part.tokens)}" for name, part in encoded.features.items()]
    click.echo(f"added {len(rows)} items to {run_dir}: {', '.join([*counts, *(f'{name} (fact)' for name in facts)])}")
