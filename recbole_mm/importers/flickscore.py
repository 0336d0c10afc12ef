"""Flickscore: three-class labels of Indian movies, with genres, descriptions, posters and ready features."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl

from recbole_mm.errors import DataError, nearest
from recbole_mm.feature_formats import read_features
from recbole_mm.features import write_feature_file
from recbole_mm.importers.atomic import line, words, write_atomic, write_dataset_yaml, year
from recbole_mm.importers.interactions import ITEM, Columns, Rule, clean
from recbole_mm.importers.items import clean_items, dropped_where, fact_modalities, types_of
from recbole_mm.importers.raw import open_table, read_json_lines, require
from recbole_mm.importers.report import ImportReport

KIND = "flickscore"
LABELS = (-1.0, 0.0, 1.0)  # dislike, neutral or not watched, like
_MOVIES_FILE = "movies.jsonl"
_MOVIES = "movies.jsonl: JSON lines with movie_id, name, description, and lists of genres and language"
_RATINGS = "ratings.tsv: user_id, movie_id and label, separated by tabs"
_NOT_IN_LANGUAGE = "movie is in none of the languages"
_FEW_GENRES = "movie has too few genres"
_LISTS = ("genres", "language", "cast", "director")


def build(target: Path, source: Path, report: ImportReport, *, languages: Sequence[str], min_genres: int) -> None:
    """Write ``.inter`` (label), ``.item``, features and YAML into ``target``.

    Args:
        target: an empty folder.
        source: the folder with ``ratings.tsv`` and ``movies.jsonl``, and maybe ``posters/`` and ``features/``.
        report: what is read, kept and dropped is noted here.
        languages: keep movies in at least one of these; none given keeps all.
        min_genres: keep movies with at least so many genres.

    Raises:
        DataError: a file is missing or unusable, or nothing is left.
    """
    movies = _read_movies(source / _MOVIES_FILE, report)
    in_language = _in_languages(movies, languages)
    has_genres = movies["genres"].list.len() >= min_genres
    kept = movies.filter(in_language & has_genres)
    left_out = (dropped_where(_NOT_IN_LANGUAGE, ~in_language), dropped_where(_FEW_GENRES, in_language & ~has_genres))
    read = report.tables[-1]
    report.tables[-1] = replace(read, kept=len(kept), dropped=(*read.dropped, *(d for d in left_out if d.rows)))
    labels = _read_labels(source, report, movies["item_id"], movies.filter(in_language)["item_id"], kept["item_id"])
    name = report.name
    write_atomic(target / f"{name}.inter", labels, {"user_id": "token", "item_id": "token", "label": "float"})
    items = _items(kept, source, report)
    write_atomic(target / f"{name}.item", items, types_of(items))
    modalities = _features(target, source, report, kept["item_id"].to_list())
    content = {
        "load_col": {"inter": ["user_id", "item_id", "label"]},
        "modalities": {**modalities, **fact_modalities(items)},
        "ranking": {"val_interval": {"label": "[1,inf)"}},
    }
    write_dataset_yaml(target, report, content)
    report.counts = {
        "users": labels["user_id"].n_unique(),
        "items": labels["item_id"].n_unique(),
        "interactions": len(labels),
        "items without a label": len(kept) - labels["item_id"].n_unique(),
    }


def _read_movies(path: Path, report: ImportReport) -> pl.DataFrame:
    texts, lists = ("movie_id", "name", "description", "released", "poster"), pl.List(pl.String)
    types = {**dict.fromkeys(texts, pl.String()), **dict.fromkeys(_LISTS, lists)}
    frame, broken = read_json_lines(path, types, what=_MOVIES)
    for key in ("movie_id", "genres", "language"):
        if frame[key].null_count() == len(frame):
            raise DataError(f"{path}: no movie has '{key}' as it should be; expected {_MOVIES}")
    frame = frame.with_columns(pl.col(_LISTS).fill_null([]))
    kept, counted = clean_items(frame.rename({"movie_id": ITEM}), "movie_id", path.name, [broken])
    report.tables.append(counted)
    return kept


def _in_languages(movies: pl.DataFrame, languages: Sequence[str]) -> pl.Series:
    if not languages:
        return pl.Series([True] * len(movies), dtype=pl.Boolean)
    known = movies["language"].explode().drop_nulls().unique().to_list()
    for language in languages:
        if language not in known:
            common = movies["language"].explode().drop_nulls().value_counts(sort=True)["language"].head(6).to_list()
            raise DataError(
                f"no movie is in the language '{language}'{nearest(language, known)}; the most frequent are "
                f"{', '.join(common)}"
            )
    return movies.select(pl.any_horizontal(pl.col("language").list.contains(x) for x in languages)).to_series()


def _read_labels(
    source: Path, report: ImportReport, known: pl.Series, in_language: pl.Series, kept: pl.Series
) -> pl.DataFrame:
    table = open_table(source / "ratings.tsv", what=_RATINGS, delimiter="\t", quotes=False)
    columns = Columns(table.column("user_id"), table.column("movie_id"), table.column("label"), value_field="label")
    movie = pl.col(ITEM).cast(pl.String)
    rules: list[Rule] = [
        ("label is not -1, 0 or 1", ~pl.col("label").is_in(LABELS)),
        (f"movie is not in {_MOVIES_FILE}", ~movie.is_in(known.implode())),
        (_NOT_IN_LANGUAGE, ~movie.is_in(in_language.implode())),
        (_FEW_GENRES, ~movie.is_in(kept.implode())),
    ]
    labels, counted = clean(table, columns, rules=rules)
    report.tables.append(counted)
    return labels


def _items(kept: pl.DataFrame, source: Path, report: ImportReport) -> pl.DataFrame:
    posters = [p if p and (source / p).is_file() else None for p in kept["poster"]]
    missing = sum(bool(before) and after is None for before, after in zip(kept["poster"], posters, strict=True))
    if missing:
        report.notes.append(f"{missing} posters that {_MOVIES_FILE} names are not there; their cells are left empty")
    return kept.select(
        "item_id",
        line(pl.col("name")).alias("title"),
        year(pl.col("released")).alias("year"),
        *(words(pl.col(key)) for key in _LISTS),
        line(pl.col("description")).alias("plot"),
        pl.Series("poster", posters, dtype=pl.String),
    )


def _features(target: Path, source: Path, report: ImportReport, items: Sequence[str]) -> dict[str, dict[str, str]]:
    """Copy the ready vectors of the items that are kept; a modality whose file is absent is not registered."""
    registered = {}
    wanted = set(items)
    for modality in ("text", "image"):
        found = sorted((source / "features").glob(f"{modality}_*.npz"))
        if not found:
            report.notes.append(f"features/{modality}_*.npz is not there; '{modality}' is not registered")
            continue
        features = read_features(require(found[0], "vectors"))
        rows = [row for row, item in enumerate(features.tokens) if item in wanted]
        if not rows:
            report.notes.append(f"features/{found[0].name} has a vector for none of the movies kept")
            continue
        subset = replace(
            features,
            vectors=features.vectors[rows],
            tokens=tuple(features.tokens[r] for r in rows),
            provenance={
                "encoder": found[0].stem, "source": f"Flickscore, features/{found[0].name}",
                "coverage": f"{len(rows)} of {len(items)} items",
            },
        )  # fmt: skip
        file = f"{report.name}.{modality}.safetensors"
        write_feature_file(target / file, subset)
        registered[modality] = {"file": file}
    return registered
