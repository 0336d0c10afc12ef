"""Films by what people call them: a token, another id, or a title without its article, its year, or a letter."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from rapidfuzz import fuzz, process

from recbole_mm.errors import RequestError
from recbole_mm.model.scoring import Array
from recbole_mm.recommend.store import Catalogue

_YEAR = re.compile(r"[(\[]\s*(1[89]\d\d|20\d\d)\s*[)\]]\s*$")
_ARTICLES = {"the", "a", "an", "le", "la", "les", "l", "il", "lo", "el", "los", "las", "der", "die", "das", "un", "une"}
_OTHER_NAME = re.compile(r"\(([^()]+)\)")
_SURE, _CLOSE, _LEAD = 87.0, 70.0, 6.0  # per cent: taken, offered, and how far the best must be ahead
_OFFERED = 6


class AmbiguousFilmError(RequestError):
    """A title that may mean several films; ``candidates`` are their ids, best first."""

    def __init__(self, text: str, candidates: Sequence[int], names: Sequence[str]) -> None:
        super().__init__(f"'{text}' may be {', '.join(names)}; give the year, or the id after 'id:'")
        self.candidates = tuple(candidates)
        self.names = tuple(names)


@dataclass(frozen=True)
class Film:
    """One item for people to read."""

    item: str  # token
    title: str
    year: int | None
    genres: tuple[str, ...]

    @property
    def name(self) -> str:
        """Title and year."""
        return f"{self.title} ({self.year})" if self.year else self.title


def plain(title: str) -> str:
    """A title without case, accents, punctuation and an article at either end: both forms of the same one are equal."""
    folded = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower().replace("&", " and ")
    words = re.sub(r"[^a-z0-9]+", " ", folded.replace("'", "")).split()
    if not words:  # another script: keep it as it is
        return " ".join(title.casefold().split())
    if len(words) > 1 and words[0] in _ARTICLES:
        words = words[1:]
    elif len(words) > 1 and words[-1] in _ARTICLES and "," in title:
        words = words[:-1]
    return " ".join(words)


class FilmIndex:
    """Finds item ids by token, alias or title.

    Args:
        catalogue: the items by internal id, entry 0 padding.
        popularity: [I]; of two films of one name and year the more popular one is meant.
        aliases: other ids, such as IMDb's, to tokens.
    """

    def __init__(self, catalogue: Catalogue, popularity: Array, aliases: Mapping[str, str] | None = None) -> None:
        self.catalogue = catalogue
        self.popularity = popularity
        self._films: dict[int, Film] = {}  # those that were asked for
        self.ids = {token: i for i, token in enumerate(catalogue.tokens) if i}
        self.aliases = {alias.casefold(): token for alias, token in (aliases or {}).items()}

    def film(self, item: int) -> Film:
        """The film of an item id."""
        found = self._films.get(item)
        if found is None:
            c = self.catalogue
            found = self._films[item] = Film(c.tokens[item], c.titles[item], c.years[item], c.genres[item])
        return found

    @cached_property
    def _by_name(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for item in range(1, len(self.catalogue.titles)):
            title = _YEAR.sub("", self.catalogue.titles[item])
            names = {plain(title), plain(_OTHER_NAME.sub(" ", title)), *map(plain, _OTHER_NAME.findall(title))}
            for name in names - {""}:
                found.setdefault(name, []).append(item)
        return found

    @cached_property
    def _names(self) -> list[str]:
        return list(self._by_name)

    def find(self, text: str) -> int:
        """The item id that a person means.

        Raises:
            AmbiguousFilmError: several films fit about as well.
            RequestError: none does.
        """
        if text in self.ids:
            return self.ids[text]
        wanted = text.strip()
        exact = self.by_id(wanted.removeprefix("id:").strip())
        if exact is not None:
            return exact
        year, name = _year_and_name(wanted)
        same = self._of_year(self._by_name.get(name, []), year)
        if not same and name:
            same = self._near(name, year)
        if not same:
            raise RequestError(f"no film '{text}'{self._suggestion(name)}; expected a title or an id of the catalogue")
        return self._one(text, same)

    def by_id(self, text: str) -> int | None:
        """The item id of a token or an alias."""
        if text in self.ids:
            return self.ids[text]
        token = self.aliases.get(text.casefold())
        return None if token is None else self.ids.get(token)

    def _of_year(self, items: Sequence[int], year: int | None) -> list[int]:
        """Those of the year; one off is let pass where none is of it exactly, or has none."""
        if year is None:
            return list(items)
        years = self.catalogue.years
        for slack in (0, 1):
            kept = [i for i in items if (known := years[i]) is not None and abs(known - year) <= slack]
            if kept:
                return kept
        return [i for i in items if years[i] is None]

    def _near(self, name: str, year: int | None) -> list[int]:
        """Those whose name is a typing mistake or a few words away."""
        scored = process.extract(name, self._names, scorer=fuzz.ratio, score_cutoff=_CLOSE, limit=_OFFERED)
        near = [(score, i) for match, score, _ in scored for i in self._of_year(self._by_name[match], year)]
        if near and near[0][0] >= _SURE:
            return [i for score, i in near if score > near[0][0] - _LEAD]
        words = set(name.split())
        containing = [i for n, items in self._by_name.items() if words <= set(n.split()) for i in items]
        kept = self._of_year(sorted(set(containing)), year)
        return kept if kept and len(name) > 2 else [i for _, i in near] if len(near) > 1 else []

    def _one(self, text: str, items: Sequence[int]) -> int:
        ordered = sorted(set(items), key=lambda i: -float(self.popularity[i]))
        names: dict[str, int] = {}
        for item in ordered:
            names.setdefault(self.film(item).name, item)
        if len(names) == 1:
            return ordered[0]
        kept = list(names.values())[:_OFFERED]
        raise AmbiguousFilmError(text, kept, [f"'{self.film(i).name}' (id:{self.catalogue.tokens[i]})" for i in kept])

    def _suggestion(self, name: str) -> str:
        if re.fullmatch(r"tt\d{5,}", name) and not self.aliases:
            return "; IMDb's ids need a table of them (--films)"
        best = process.extractOne(name, self._names, scorer=fuzz.ratio, score_cutoff=55) if name else None
        return f"; did you mean '{self.film(self._by_name[best[0]][0]).name}'?" if best else ""

    def search(self, text: str, limit: int) -> list[int]:
        """Item ids that fit what has been typed so far: words that begin so, by popularity, then what is alike."""
        year, name = _year_and_name(text)
        exact = self.by_id(text.strip())
        found = [] if exact is None else [exact]
        if name:
            begun = [i for n, items in self._by_name.items() if f" {name}" in f" {n}" for i in items]
            whole = set(self._by_name.get(name, ()))
            begun.sort(key=lambda i: (i not in whole, -float(self.popularity[i])))
            found += self._of_year(begun, year)
        if name and len(found) < limit:
            alike = process.extract(name, self._names, scorer=fuzz.WRatio, score_cutoff=_CLOSE, limit=limit)
            found += self._of_year([i for match, *_ in alike for i in self._by_name[match]], year)
        return list(dict.fromkeys(found))[:limit]


def _year_and_name(text: str) -> tuple[int | None, str]:
    year = _YEAR.search(text)
    return (int(year.group(1)) if year else None), plain(_YEAR.sub("", text))
