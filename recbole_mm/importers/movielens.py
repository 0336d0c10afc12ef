"""MovieLens: 100K (``u.data``, or as RecBole's wheel has it), 1M and 10M (``.dat``), latest to 32M (``.csv``)."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from recbole_mm.errors import DataError
from recbole_mm.importers.atomic import line, words, write_atomic, write_dataset_yaml, year
from recbole_mm.importers.interactions import Columns, clean
from recbole_mm.importers.items import clean_items, fact_modalities, imdb_id, types_of
from recbole_mm.importers.raw import RawTable, open_table, require
from recbole_mm.importers.report import ImportReport
from recbole_mm.resources import movielens_in_recbole

KIND = "movielens"
IN_RECBOLE = "recbole"  # the source that stands for the copy in RecBole's wheel
_INTER = {"user_id": "token", "item_id": "token", "rating": "float", "timestamp": "float"}
_FORMS = (
    "ratings.csv and movies.csv (latest, 20M, 25M, 32M), ratings.dat and movies.dat (1M, 10M), u.data and u.item "
    "(100K), or ml-100k.inter"
)
_TAGS = ("tags.csv", "tags.dat")
_GENRES = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip
_U_ITEM = ("item_id", "title", "release_date", "video_release_date", "imdb_url", *_GENRES)  # a flag for each genre
_YEAR_IN_TITLE = r"\s*\((\d{4})[^()]*\)(?:\s*\((?:V|TV)\))?\s*$"  # also "(1995) (V)", of a film on video
_DAT = ("UserID", "_1", "MovieID", "_2", "Rating", "_3", "Timestamp")  # '::' is two separators of one character


def build(target: Path, source: Path, report: ImportReport) -> None:
    """Write ``.inter``, ``.item``, ``.user`` where there are facts of users, and the YAML into ``target``.

    Args:
        target: an empty folder.
        source: the unpacked folder, or :data:`IN_RECBOLE`.
        report: what is read, kept and dropped is noted here.

    Raises:
        DataError: the folder is none of MovieLens's forms, or nothing is left.
    """
    folder = movielens_in_recbole() if str(source) == IN_RECBOLE else source
    form = _form(folder)
    name = report.name
    ratings, counted = clean(*form.ratings(folder))
    report.tables.append(counted)
    write_atomic(target / f"{name}.inter", ratings, _INTER)
    users, movies = ratings["user_id"].n_unique(), ratings["item_id"].n_unique()
    report.counts = {"users": users, "items": movies, "interactions": len(ratings)}
    del ratings
    items = form.items(folder, report)
    write_atomic(target / f"{name}.item", items, types_of(items))
    report.counts["items with facts"] = len(items)
    people = form.users(folder)
    if people is not None:
        write_atomic(target / f"{name}.user", people, dict.fromkeys(people.columns, "token"))
    report.notes += [f"{tags} is not imported" for tags in _TAGS if (folder / tags).is_file()]
    content = {"load_col": {"inter": list(_INTER)}, "modalities": fact_modalities(items)}
    write_dataset_yaml(target, report, content)


@dataclass(frozen=True)
class _Form:
    ratings: Callable[[Path], tuple[RawTable, Columns]]
    items: Callable[[Path, ImportReport], pl.DataFrame]
    users: Callable[[Path], pl.DataFrame | None] = lambda folder: None


def _form(folder: Path) -> _Form:
    for file, form in _FILES.items():
        if (folder / file).is_file():
            return form
    raise DataError(f"{folder}: none of MovieLens's files is there; expected {_FORMS}, or --source {IN_RECBOLE}")


def _columns(table: RawTable, user: str, item: str, rating: str, timestamp: str) -> Columns:
    return Columns(table.column(user), table.column(item), table.column(rating), table.column(timestamp))


def _csv_ratings(folder: Path) -> tuple[RawTable, Columns]:
    table = open_table(folder / "ratings.csv", what="userId,movieId,rating,timestamp", delimiter=",")
    return table, _columns(table, "userId", "movieId", "rating", "timestamp")


def _csv_items(folder: Path, report: ImportReport) -> pl.DataFrame:
    table = open_table(folder / "movies.csv", what="movieId,title,genres", delimiter=",")
    columns = {"item_id": table.column("movieId"), "title": table.column("title"), "genres": table.column("genres")}
    items = _movies(table.collect(**columns), "movieId", table.path.name, report)
    if not (folder / "links.csv").is_file():
        report.notes.append("links.csv is not there; the movies have no IMDb id")
        return items
    links = open_table(folder / "links.csv", what="movieId,imdbId,tmdbId", delimiter=",")
    read = links.collect(item_id=links.column("movieId"), imdb=links.column("imdbId"), tmdb_id=links.optional("tmdbId"))
    read, counted = clean_items(read, "movieId", links.path.name)
    report.tables.append(counted)
    return items.join(
        read.with_columns(imdb_id("imdb").alias("imdb_id")), on="item_id", how="left", maintain_order="left"
    )


def _dat_ratings(folder: Path) -> tuple[RawTable, Columns]:
    table = open_table(
        folder / "ratings.dat", what="UserID::MovieID::Rating::Timestamp", delimiter=":", header=_DAT, quotes=False
    )
    return table, _columns(table, "UserID", "MovieID", "Rating", "Timestamp")


def _dat_items(folder: Path, report: ImportReport) -> pl.DataFrame:
    frame = _unnamed(folder / "movies.dat", ("item_id", "title", "genres"), "::")
    return _movies(frame, "MovieID", "movies.dat", report)


def _dat_users(folder: Path) -> pl.DataFrame | None:
    if not (folder / "users.dat").is_file():
        return None
    return _unnamed(folder / "users.dat", ("user_id", "gender", "age", "occupation", "zip_code"), "::")


def _100k_ratings(folder: Path) -> tuple[RawTable, Columns]:
    names = ("user id", "item id", "rating", "timestamp")
    table = open_table(folder / "u.data", what=" | ".join(names), delimiter="\t", header=names, quotes=False)
    return table, _columns(table, *names)


def _100k_items(folder: Path, report: ImportReport) -> pl.DataFrame:
    frame = _unnamed(folder / "u.item", _U_ITEM, "|")
    flagged = [pl.when(pl.col(genre) == "1").then(pl.lit(genre)) for genre in _GENRES]
    genres = pl.concat_str(flagged, separator="|", ignore_nulls=True)
    return _movies(frame.select("item_id", "title", genres.alias("genres")), "movie id", "u.item", report)


def _100k_users(folder: Path) -> pl.DataFrame | None:
    if not (folder / "u.user").is_file():
        return None
    return _unnamed(folder / "u.user", ("user_id", "age", "gender", "occupation", "zip_code"), "|")


def _unnamed(path: Path, columns: tuple[str, ...], separator: str) -> pl.DataFrame:
    """A small table without a header."""
    content = require(path, separator.join(columns)).read_bytes()
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        text = content.decode("latin-1")  # titles of 100K and 1M
    rows = (line.removesuffix("\r") for line in text.split("\n"))
    lines = pl.Series([row for row in rows if row.strip()], dtype=pl.String)
    return lines.str.split_exact(separator, len(columns) - 1).struct.rename_fields(list(columns)).struct.unnest()


def _recbole_ratings(folder: Path) -> tuple[RawTable, Columns]:
    table = open_table(folder / "ml-100k.inter", what="RecBole's ml-100k", delimiter="\t", quotes=False)
    return table, _columns(table, "user_id:token", "item_id:token", "rating:float", "timestamp:float")


def _recbole_items(folder: Path, report: ImportReport) -> pl.DataFrame:
    table = open_table(folder / "ml-100k.item", what="RecBole's ml-100k", delimiter="\t", quotes=False)
    frame = table.collect(
        item_id=table.column("item_id:token"), title=table.column("movie_title:token_seq"),
        year=table.column("release_year:token"), genres=table.column("class:token_seq"),
    )  # fmt: skip
    frame, counted = clean_items(frame, "item_id", table.path.name)
    report.tables.append(counted)
    return frame.with_columns(line(pl.col("title")), year(pl.col("year")))


def _recbole_users(folder: Path) -> pl.DataFrame | None:
    table = open_table(folder / "ml-100k.user", what="RecBole's ml-100k", delimiter="\t", quotes=False)
    return table.collect(**{column.split(":")[0]: column for column in table.columns})


def _movies(frame: pl.DataFrame, raw_id: str, file: str, report: ImportReport) -> pl.DataFrame:
    """Title and year apart, genres as words."""
    frame, counted = clean_items(frame, raw_id, file)
    report.tables.append(counted)
    genres = pl.col("genres").str.replace_all("(no genres listed)", "", literal=True).str.split("|")
    frame = frame.with_columns(
        pl.col("title").str.extract(_YEAR_IN_TITLE).cast(pl.Int64).alias("year"),
        pl.col("title").str.replace(_YEAR_IN_TITLE, ""),
        genres,
    )
    return frame.with_columns(line(pl.col("title")), words(pl.col("genres")))


_FILES = {
    "ratings.csv": _Form(_csv_ratings, _csv_items),
    "ratings.dat": _Form(_dat_ratings, _dat_items, _dat_users),
    "u.data": _Form(_100k_ratings, _100k_items, _100k_users),
    "ml-100k.inter": _Form(_recbole_ratings, _recbole_items, _recbole_users),
}
