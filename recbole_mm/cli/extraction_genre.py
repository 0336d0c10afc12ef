"""One run of ``recbole-mm extract genre``: from a registered modality and genres to a new one."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from recbole_mm.cli.console import make_console
from recbole_mm.cli.registry import check_modality, feature_path, registered, store
from recbole_mm.data import prepare_files
from recbole_mm.errors import ConfigError, ExtractionError, nearest
from recbole_mm.extraction.genre import embed, genre_card, multi_hot, save_network, train_genres
from recbole_mm.extraction.items import Table, read_table
from recbole_mm.feature_formats import read_features
from recbole_mm.features import Features, Segments


def run(
    *, dataset: str, source: str, modality: str | None, data_path: str, replace: bool, table: str | None,
    item_column: str | None, genre_column: str, separator: str | None, held_out: float, epochs: int, seed: int,
    dtype: str,
) -> None:  # fmt: skip
    """Train on ``source``, write the embeddings and register them.

    Raises:
        ConfigError: the modality is not registered, or the new one is.
        ExtractionError: there are no genres to learn.
    """
    root, name = Path(data_path), modality or f"{source}_genre"
    prepare_files(dataset, root)
    check_modality(root, dataset, name, replace=replace)
    features = _source(root, dataset, source)
    found = read_table(Path(table or root / dataset / f"{dataset}.item"), item_column)
    genres = genres_by_item(found, genre_column, separator)
    tokens = [token for token in sorted(features.tokens) if genres.get(token)]
    if not tokens:
        raise ExtractionError(f"{found.path}: no item with a feature '{source}' has genres in column '{genre_column}'")
    labels, kept = multi_hot([genres[token] for token in tokens])
    row = {token: number for number, token in enumerate(features.tokens)}
    learnt = np.asarray(features.vectors[[row[token] for token in tokens]], dtype=np.float32)
    network, scores = train_genres(learnt, labels, seed=seed, held_out=held_out, epochs=epochs)
    weights = feature_path(root, dataset, name).with_suffix(".embedder.safetensors")
    save_network(weights, network, kept)
    card = genre_card(weights, str(features.provenance.get("modality", source)), features.provenance)
    facts = {
        **card.provenance(),
        "source": f"modality '{source}' and genres in column {genre_column} of {found.path.name}",
        "genres": json.dumps(list(kept), ensure_ascii=False),
        "held_out": f"{scores}; seed {seed}, {epochs} epochs",
    }
    parts = features.segments
    if parts is not None:
        parts = Segments(embed(network, parts.vectors).astype(dtype), parts.starts)
    vectors = embed(network, features.vectors).astype(dtype)
    made = Features(vectors, features.tokens, facts, f"{name} of {dataset}", parts)
    line = store(root, dataset, name, made, {}, allow_unknown=True)
    console = make_console()
    for text in (f"{len(kept)} genres; {scores}", line, f"weights of the embedder: {weights}"):
        console.print(text, highlight=False, soft_wrap=True, markup=False)


def _source(root: Path, dataset: str, source: str) -> Features:
    entries: dict[str, Any] = registered(root, dataset)
    if "file" not in entries.get(source, {}):
        have = ", ".join(entries) or "none"
        raise ConfigError(
            f"modality '{source}' of '{dataset}' has no feature file (registered: {have}){nearest(source, entries)}"
        )
    return read_features(root / dataset / entries[source]["file"])


def genres_by_item(table: Table, column: str, separator: str | None) -> dict[str, list[str]]:
    """Genres of each item; split at ``separator``, or at what the column has: | or ; or comma, else space.

    Raises:
        ExtractionError: there is no such column.
    """
    table.check(column)
    cells = [(token, row.get(column, "")) for token, rows in table.by_item().items() for row in rows]
    if separator is None:
        separator = next((mark for mark in "|;," if any(mark in cell for _, cell in cells)), " ")
    found: dict[str, list[str]] = {}
    for token, cell in cells:
        names = re.split(rf"\s*{re.escape(separator)}\s*", cell.strip()) if separator.strip() else cell.split()
        found.setdefault(token, []).extend(name for name in names if name)
    return found
