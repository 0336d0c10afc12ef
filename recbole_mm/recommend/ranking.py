"""What is recommended: as numbers, for those who write it down by themselves, and as objects to read."""

from collections.abc import Sequence
from dataclasses import dataclass

from recbole_mm.model.scoring import Array
from recbole_mm.recommend.explain import Explanation, Reasons, in_words
from recbole_mm.recommend.scorer import Person
from recbole_mm.recommend.titles import Film, FilmIndex


@dataclass(frozen=True)
class Recommendation:
    """One line of the answer."""

    rank: int
    film: Film
    score: float
    why: Explanation | None = None


@dataclass(frozen=True)
class Similar:
    """One film like another: cosine of their features."""

    rank: int
    film: Film
    similarity: float


@dataclass(frozen=True)
class Ranked:
    """A person's k best items, ids and scores [k], best first; and why, where asked for."""

    person: Person
    items: Array
    scores: Array
    named: tuple[int, ...]  # the watched films that the person told, as they were understood
    reasons: Reasons | None = None

    def in_words(self, films: FilmIndex, names: Sequence[str]) -> list[Recommendation]:
        """The same as objects; ``names`` are the modalities'."""
        why: Sequence[Explanation | None] = [None] * len(self.items)
        if self.reasons is not None:
            watched = [films.film(item) for item in self.person.items.tolist()]
            why = in_words(self.reasons, self.scores, self.person.weights, watched, names)
        return [
            Recommendation(rank, films.film(item), score, because)
            for rank, (item, score, because) in enumerate(
                zip(self.items.tolist(), self.scores.tolist(), why, strict=True), start=1
            )
        ]
