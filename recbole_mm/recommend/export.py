"""Make a run's ``serving`` folder: the one place of recommending that loads RecBole, torch and the data set."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recbole_mm.errors import DataError
from recbole_mm.model.scoring import Array, NewItems, ScoringParts
from recbole_mm.recommend import fold_in, store
from recbole_mm.recommend.histories import Histories

TITLE_FIELDS = ("movie_title", "title", "name", "item_name", "item_title")
YEAR_FIELDS = ("release_year", "year", "movie_year")
GENRE_FIELDS = ("class", "genre", "genres", "category", "categories")

_ARTICLES = "The|A|An|Le|La|Les|L'|Il|El|Los|Las|Das|Der|Die"  # at a title's end, after a comma, in MovieLens


def export(run_dir: Path) -> str | None:
    """Write the folder from the finished run.

    Returns:
        Why people whom the model was not trained on cannot be scored; None if they can.

    Raises:
        RecBoleMMError: the run cannot be loaded, or the folder not be written.
    """
    from recbole_mm.quick_start import load
    from recbole_mm.recommend.new_items import read_added
    from recbole_mm.recommend.recbole_parts import parts_of

    digest = store.source_digest(run_dir)
    run = load(run_dir)
    added = read_added(run_dir)
    new = None if added is None else added.new_items(run.dataset)
    parts = parts_of(run.model, new)
    if isinstance(parts, str) and new is not None:
        raise DataError(f"{run_dir / store.ADDED}: {parts}; remove that folder")
    catalogue = _catalogue(run.dataset, [] if added is None else added.rows)
    histories, rating = _histories(run)
    scoring = parts if isinstance(parts, ScoringParts) else None
    learned = None if scoring is None else fold_in.fit(scoring, histories)
    overlap = None if learned is None else round(learned.overlap, 4)
    manifest = {
        "source": digest, "model": run.config["model"], "dataset": run.config["dataset"],
        "new_users": scoring is not None,
        "matching": scoring.matching if scoring else "dot", "temperature": scoring.temperature if scoring else 1.0,
        "rating": {**rating, "power": scoring.rating_power if scoring else 0.0}, "fold_in_overlap": overlap,
        "modalities": tuple(run.dataset.modalities),
    }  # fmt: skip
    extra = {
        **_histories_arrays(run, histories, len(catalogue.tokens)),
        "fold_in": None if learned is None else learned.weights,
        **_features(run.dataset, new, len(catalogue.tokens)),
    }
    users = [str(token) for token in run.dataset.field2id_token[run.dataset.uid_field]]
    store.write(run_dir, manifest, catalogue, users, scoring, extra)
    return parts if isinstance(parts, str) else None


def _histories(run: Any) -> tuple[Histories, dict[str, float]]:
    """Training histories with the weights that the model gave them, and the scale of the ratings."""
    from recbole_mm.model.closed_form import history_weights

    train = run.train_data._dataset
    field = run.config["RATING_FIELD"]
    power = float(getattr(getattr(run.model, "hp", None), "rating_power", 0.0))
    matrix = history_weights(train, field, power)
    matrix.sort_indices()
    rating = {"low": 1.0, "high": 5.0, "mean": 3.0}
    if field in train.inter_feat:
        values = train.inter_feat[field].numpy().astype(np.float64)
        rating = {"low": float(values.min()), "high": float(values.max()), "mean": float(values.mean())}
    return Histories(matrix.indptr.astype(np.int64), matrix.indices, matrix.data.astype(np.float32)), rating


def _histories_arrays(run: Any, histories: Histories, n_items: int) -> dict[str, Array]:
    seen = run.dataset.inter_matrix(form="csr")
    seen.sum_duplicates()
    popularity = np.zeros(n_items, dtype=np.float32)
    popularity[: run.dataset.item_num] = seen.getnnz(axis=0)
    return {
        "starts": histories.starts,
        "watched": histories.items.astype(np.int32),
        "weights": np.asarray(histories.weights),
        "seen_starts": seen.indptr.astype(np.int64),
        "seen": seen.indices.astype(np.int32),
        "popularity": popularity,
    }


def _features(dataset: Any, new: NewItems | None, n_items: int) -> dict[str, Array]:
    """The standardised vectors of every modality as float16, [I, F] each, and which items have one, [I, M]."""
    from recbole_mm.model.fusion import ModalityBank

    names = list(dataset.modalities)
    if not names:
        return {"mask": np.zeros((n_items, 0), dtype=bool)}
    vectors, mask = ModalityBank(dataset, names).extended(new)
    arrays: dict[str, Array] = {f"features.{name}": vectors[name].numpy().astype(np.float16) for name in names}
    return {**arrays, "mask": mask.numpy()}


def _catalogue(dataset: Any, added: Sequence[Any]) -> store.Catalogue:
    """Titles, years and genres from the ``.item`` file, where it has such columns."""
    from recbole_mm.data.facts import read_items

    tokens = [str(token) for token in dataset.field2id_token[dataset.iid_field]]
    facts: dict[str, tuple[str, str, str]] = {}
    path = Path(dataset.dataset_path) / f"{dataset.dataset_name}.item"
    if path.is_file():
        table = read_items(path, dataset.config).drop_duplicates(dataset.iid_field)
        columns = [next((f for f in known if f in table), None) for known in (TITLE_FIELDS, YEAR_FIELDS, GENRE_FIELDS)]
        cells = [table[c].tolist() if c else [""] * len(table) for c in columns]
        facts = dict(zip(table[dataset.iid_field], zip(*cells, strict=True), strict=True))
    separator = dataset.config["seq_separator"]
    rows = [facts.get(token, ("", "", "")) for token in tokens]
    return store.Catalogue(
        tokens=(*tokens, *(row.token for row in added)),
        titles=(
            *(_title(row[0]) or token for row, token in zip(rows, tokens, strict=True)),
            *(row.title for row in added),
        ),
        years=(*(_year(row[1]) for row in rows), *(row.year for row in added)),
        genres=(*(tuple(row[2].split(separator)) if row[2] else () for row in rows), *(row.genres for row in added)),
    )


def _title(text: str) -> str:
    """``Usual Suspects, The`` as people say it."""
    return re.sub(rf"^(.*), ({_ARTICLES})$", r"\2 \1", text.strip())


def _year(text: str) -> int | None:
    digits = text.strip()[:4]
    return int(digits) if len(digits) == 4 and digits.isdigit() else None
