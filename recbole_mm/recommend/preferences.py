"""What a person asks for on top of the model's scores: genres, a lean towards plot or poster, diversity."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from recbole_mm.errors import RequestError, nearest
from recbole_mm.model.scoring import Array
from recbole_mm.recommend.content import Content
from recbole_mm.recommend.histories import LowRatings
from recbole_mm.recommend.scorer import Person
from recbole_mm.recommend.store import Catalogue

Watched = Mapping[str, float | None] | Iterable[str | tuple[str, float | None]]


@dataclass(frozen=True)
class Wishes:
    """What a person tells: see :meth:`recbole_mm.recommend.recommender.Recommender.recommend`."""

    user: str | None = None
    watched: tuple[tuple[str, float | None], ...] = ()
    genres: tuple[str, ...] = ()
    only_genres: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    low_ratings: LowRatings = "against"
    genre_weight: float = 1.0
    lean: Mapping[str, float] = field(default_factory=dict)
    diversity: float = 0.0


def pairs_of(watched: Watched) -> tuple[tuple[str, float | None], ...]:
    """Films with ratings, however they were given."""
    if isinstance(watched, Mapping):
        return tuple(watched.items())
    return tuple((film, None) if isinstance(film, str) else film for film in watched)


@dataclass(frozen=True)
class Lean:
    """``scale`` times ``likeness`` [I], to what was watched by one modality, is added to the scores."""

    scale: float
    likeness: Array


@dataclass(frozen=True)
class Scored:
    """A person's scores of all items [I] and what was added to the model's."""

    person: Person
    scores: Array
    genre_bonus: Array | None = None  # [I]
    leans: Mapping[str, Lean] = field(default_factory=dict)


class Preferences:
    """Turns wishes into numbers on the items of a catalogue."""

    def __init__(self, catalogue: Catalogue, content: Content) -> None:
        self.catalogue = catalogue
        self.content = content
        self._genres = {g.casefold(): g for genres in catalogue.genres for g in genres}

    @property
    def genres(self) -> list[str]:
        """All genres of the catalogue."""
        return sorted(self._genres.values())

    def check(self, wishes: Wishes) -> None:
        """Refuse what is out of range.

        Raises:
            RequestError: a number out of its range, an unknown modality, or nothing to go by.
        """
        for name, value, limit in (("diversity", wishes.diversity, 1.0), ("genre_weight", wishes.genre_weight, 100.0)):
            if not 0 <= value <= limit:
                raise RequestError(f"{name}={value:g}; expected 0 to {limit:g}")
        for name, value in wishes.lean.items():
            self.content.check(name)
            if not -100 <= value <= 100:
                raise RequestError(f"lean {name}={value:g}; expected -100 to 100")
        if wishes.low_ratings not in ("against", "as_trained"):
            raise RequestError(f"low_ratings={wishes.low_ratings!r}; expected 'against' or 'as_trained'")
        if wishes.user is None and not (wishes.watched or wishes.genres or wishes.only_genres):
            raise RequestError("nothing to go by; expected a user, a film watched or a genre")

    def genre_bonus(self, wishes: Wishes, spread: float) -> Array | None:
        """``genre_weight`` spreads for a film with all genres asked for, less for one with some; [I]."""
        asked = [self._genre(name) for name in wishes.genres]
        if not asked:
            return None
        share = np.array([sum(g in genres for g in asked) for genres in self.catalogue.genres]) / len(asked)
        return np.asarray(wishes.genre_weight * spread * share, dtype=np.float32)

    def allowed(self, wishes: Wishes) -> Array:
        """True for films of one of the only genres, [I]."""
        only = {self._genre(name) for name in wishes.only_genres}
        if not only:
            return np.ones(len(self.catalogue.genres), dtype=bool)
        return np.array([not only.isdisjoint(genres) for genres in self.catalogue.genres])

    def leans(self, wishes: Wishes, person: Person, spread: float) -> dict[str, Lean]:
        """By modality, likeness to what was watched, brought to the spread of the model's scores."""
        found = {}
        for name, amount in wishes.lean.items():
            if amount and len(person.items):
                likeness = self.content.to_vector(name, self.content.profile(name, person.items, person.signs))
                size = float(likeness[1:].std())
                if size > 0:
                    found[name] = Lean(amount * spread / size, likeness)
        return found

    def _genre(self, name: str) -> str:
        found = self._genres.get(name.strip().casefold())
        if found is None:
            have = ", ".join(self.genres) or "none"
            raise RequestError(f"no genre '{name}'{nearest(name, self.genres)} (genres: {have})")
        return found
