"""What the recommender's answers look like: a table for people, JSON or CSV for programs."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import IO, TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from recbole_mm.recommend.explain import Explanation
    from recbole_mm.recommend.preferences import Wishes
    from recbole_mm.recommend.ranking import Recommendation, Similar
    from recbole_mm.recommend.recommender import Recommender
    from recbole_mm.recommend.titles import FilmIndex

_REASONS = 2  # watched films named in a table's line


def write_list(
    found: Sequence["Recommendation"], wishes: "Wishes", films: "FilmIndex", asked: Mapping[str, Any], file: IO[str]
) -> None:
    """A ranked list."""
    if asked["as_json"]:
        _json([_plain(r) for r in found], file)
        return
    if asked["as_csv"]:
        rows = [[r.rank, r.film.item, r.film.title, r.film.year or "", f"{r.score:.6f}"] for r in found]
        _csv(["rank", "item", "title", "year", "score"], rows, file)
        return
    console = _console(file)
    if wishes.watched:
        named = (f"{films.film(films.find(f)).name}{'' if r is None else f' = {r:g}'}" for f, r in wishes.watched)
        console.print(f"watched: {', '.join(named)}", highlight=False, markup=False, soft_wrap=True)
    table = Table()
    for name in ("", "film", "genres", "score", *(["carried by", "through"] if asked["explain"] else [])):
        table.add_column(name, justify="right" if name in {"", "score"} else "left")
    for r in found:
        table.add_row(str(r.rank), r.film.name, ", ".join(r.film.genres), f"{r.score:.3f}", *_reasons(r.why))
    console.print(table)


def _reasons(why: "Explanation | None") -> list[str]:
    if why is None:
        return []
    films = [
        f"{'not ' if p.weight < 0 else ''}{p.film.name} {p.contribution:+.2f}"
        for p in why.films[:_REASONS]
        if p.contribution > 0
    ]
    by = sorted(why.modalities.items(), key=lambda pair: -pair[1])
    return ["; ".join(films) or "popularity", ", ".join(f"{name} {value:+.2f}" for name, value in by[:3] if value > 0)]


def write_why(why: "Explanation", films: "FilmIndex", film: str, asked: Mapping[str, Any], file: IO[str]) -> None:
    """What one score is made of, adding up to it."""
    name = films.film(films.find(film)).name
    if asked["as_json"]:
        _json(asdict(why), file)
        return
    modalities = list(why.modalities)
    rows = [[p.film.name, *(f"{p.by[m]:+.3f}" for m in modalities), f"{p.contribution:+.3f}", f"{p.without:.3f}"]
            for p in why.films if p.without is not None]  # fmt: skip
    header = ["watched", *modalities, "in all", "score without it"]
    blank = [""] * len(modalities)
    rows += [[what, *blank, f"{value:+.3f}", ""] for what, value in (
        ("profile", why.profile), ("popularity", why.popularity), ("genres", why.genres)) if value]  # fmt: skip
    totals = [f"{why.modalities[m]:+.3f}" for m in modalities]
    rows.append([f"score of {name}", *totals, f"{why.score:.3f}", ""])
    if asked["as_csv"]:
        _csv(header, rows, file)
        return
    table = Table(title=f"why {name}", title_justify="left", title_style="bold")
    for column in header:
        table.add_column(column, justify="left" if column == "watched" else "right")
    for row in rows[:-1]:
        table.add_row(*row)
    table.add_section()
    table.add_row(*rows[-1])
    _console(file).print(table)


def write_similar(found: Sequence["Similar"], asked: Mapping[str, Any], file: IO[str]) -> None:
    """Films like one film."""
    if asked["as_json"]:
        _json([_plain(s) for s in found], file)
        return
    rows = [[s.rank, s.film.item, s.film.title, s.film.year or "", f"{s.similarity:.4f}"] for s in found]
    if asked["as_csv"]:
        _csv(["rank", "item", "title", "year", "similarity"], rows, file)
        return
    table = Table()
    for name in ("", "film", "genres", "similarity"):
        table.add_column(name, justify="right" if name in {"", "similarity"} else "left")
    for s in found:
        table.add_row(str(s.rank), s.film.name, ", ".join(s.film.genres), f"{s.similarity:.3f}")
    _console(file).print(table)


def write_everyone(recommender: "Recommender", k: int, as_json: bool, file: IO[str]) -> None:
    """Everyone's list, a line at a time: CSV, or a JSON object a user."""
    writer = csv.writer(file, lineterminator="\n")
    if not as_json:
        writer.writerow(["user", "rank", "item", "title", "score"])
    for user, found in recommender.everyone(k):
        if as_json:
            items = [{"item": r.film.item, "title": r.film.title, "score": round(r.score, 6)} for r in found]
            file.write(json.dumps({"user": user, "items": items}, ensure_ascii=False) + "\n")
        else:
            writer.writerows([user, r.rank, r.film.item, r.film.title, f"{r.score:.6f}"] for r in found)


def _plain(answer: "Recommendation | Similar") -> dict[str, Any]:
    return {key: value for key, value in asdict(answer).items() if value is not None}


def _json(value: Any, file: IO[str]) -> None:
    file.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def _csv(header: Sequence[str], rows: Sequence[Sequence[Any]], file: IO[str]) -> None:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)


def _console(file: IO[str]) -> Console:
    console = Console(file=file)
    return console if console.is_terminal else Console(file=file, width=150)
