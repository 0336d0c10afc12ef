"""``recbole-mm recommend``: a ranked list for a user of the data set, for somebody new, or for everyone."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from recbole_mm.errors import ConfigError

if TYPE_CHECKING:
    from recbole_mm.recommend.recommender import Recommender
    from recbole_mm.recommend.titles import FilmIndex

RUN = click.option("--run", "run_dir", required=True, metavar="RUN", help="Directory of a finished run.")
FILMS = click.option(
    "--films", "films_file", metavar="CSV",
    help="Other ids of the films: a table with item_id, imdb_id (or any other column ending in _id), poster.",
)  # fmt: skip


@click.command()
@RUN
@click.option("--user", metavar="TOKEN", help="A user of the data set.")
@click.option("--watched", multiple=True, metavar="FILM[=RATING]", help="A title or id, with a rating; repeat it.")
@click.option("--genre", "genres", multiple=True, help="A favourite genre; repeat it.")
@click.option("--only-genre", "only_genres", multiple=True, help="Only films of such a genre; repeat it.")
@click.option("--exclude", multiple=True, metavar="FILM", help="A film to leave out; repeat it.")
@click.option("-k", "k", type=int, default=10, show_default=True, help="How many films.")
@click.option(
    "--low-ratings", type=click.Choice(["against", "as-trained"]), default="against", show_default=True,
    help="Whether a rating below the middle of the scale counts against, or only weighs less, as in training.",
)  # fmt: skip
@click.option("--genre-weight", type=float, default=1.0, show_default=True, help="How much a favourite genre counts.")
@click.option("--lean", multiple=True, metavar="MODALITY=AMOUNT", help="Towards likeness by a modality; repeat it.")
@click.option("--diversity", type=float, default=0.0, show_default=True, help="0: the best k, 1: the most unlike ones.")
@click.option("--explain", is_flag=True, help="Add what carried each film.")
@click.option("--why", metavar="FILM", help="Explain the score of this one film instead.")
@click.option("--similar", metavar="FILM", help="List the films most like this one instead.")
@click.option("--by", metavar="MODALITY", help="With --similar: compare by this modality only.")
@click.option("--all-users", is_flag=True, help="Write everyone's top k, as CSV or JSON lines.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@click.option("--out", metavar="FILE", help="Write there instead of printing: whole or not at all.")
@FILMS
def recommend(run_dir: str, films_file: str | None, all_users: bool, out: str | None, **asked: Any) -> None:
    """Recommend films: to --user, or to somebody new by what they --watched and the genres they like."""
    if asked["as_json"] and asked["as_csv"]:
        raise ConfigError("--json and --csv exclude each other")
    questions = [name for name in ("why", "similar") if asked[name] is not None] + ["all-users"] * all_users
    if len(questions) > 1:
        raise ConfigError(f"--{questions[0]} and --{questions[1]} exclude each other")
    from recbole_mm.cli import answers

    recommender = open_run(run_dir, films_file)
    with _output(out) as file:
        if all_users:
            answers.write_everyone(recommender, asked["k"], asked["as_json"], file)
        elif asked["similar"] is not None:
            film = _asking(recommender.films, asked["similar"])
            answers.write_similar(recommender.similar(film, asked["k"], by=asked["by"]), asked, file)
        else:
            wishes = _wishes(recommender.films, asked)
            if asked["why"] is not None:
                film = _asking(recommender.films, asked["why"])
                answers.write_why(recommender.explain_wishes(wishes, film), recommender.films, film, asked, file)
            else:
                found = recommender.answer(wishes, asked["k"], explain=asked["explain"])
                answers.write_list(found, wishes, recommender.films, asked, file)


def open_run(run_dir: str, films_file: str | None) -> "Recommender":
    """Load a run to recommend from; making its ``serving`` folder is announced on standard error.

    Raises:
        RecBoleMMError: the run or the table cannot be used.
    """
    from recbole_mm.recommend import store
    from recbole_mm.recommend.people_files import FilmTable, read_film_table
    from recbole_mm.recommend.recommender import Recommender

    table = read_film_table(Path(films_file)) if films_file else FilmTable()
    if store.read(Path(run_dir)) is None:
        click.echo("preparing the run for recommending (once) ...", err=True)
    return Recommender.load(run_dir, aliases=table.aliases)


def _wishes(films: "FilmIndex", asked: dict[str, Any]) -> Any:
    from recbole_mm.recommend.preferences import Wishes

    return Wishes(
        user=asked["user"],
        watched=tuple((_asking(films, film), rating) for film, rating in map(_film_and_rating, asked["watched"])),
        genres=asked["genres"],
        only_genres=asked["only_genres"],
        exclude=tuple(_asking(films, film) for film in asked["exclude"]),
        low_ratings=asked["low_ratings"].replace("-", "_"),
        genre_weight=asked["genre_weight"],
        lean=dict(map(_amount, asked["lean"])),
        diversity=asked["diversity"],
    )


def _film_and_rating(word: str) -> tuple[str, float | None]:
    """``Toy Story (1995)=5``: what follows the last equals sign is a rating if it is a number."""
    film, equals, rating = word.rpartition("=")
    try:
        return (film, float(rating)) if equals else (word, None)
    except ValueError:
        return word, None


def _amount(word: str) -> tuple[str, float]:
    name, _, amount = word.partition("=")
    try:
        return name, float(amount)
    except ValueError:
        raise ConfigError(f"--lean {word}: expected MODALITY=AMOUNT, such as text=1") from None


def _asking(films: "FilmIndex", text: str) -> str:
    """The token of the film that is meant; on a terminal a person is asked which, if it may be several.

    Raises:
        RequestError: no film fits, or several do and nobody can be asked.
    """
    from recbole_mm.recommend.titles import AmbiguousFilmError

    try:
        found = films.find(text)
    except AmbiguousFilmError as error:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise
        for number, name in enumerate(error.names, start=1):
            click.echo(f"  {number}  {name}", err=True)
        choice = click.prompt(
            f"'{text}' may be any of these; which one", type=click.IntRange(1, len(error.names)), err=True
        )
        found = error.candidates[choice - 1]
    return f"id:{films.catalogue.tokens[found]}"


@contextlib.contextmanager
def _output(out: str | None) -> Iterator[IO[str]]:
    """Standard output, or a file that is there whole or not at all."""
    if out is None:
        yield sys.stdout
        return
    from recbole_mm.files import replacing

    with replacing(Path(out)) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        yield file
