"""What the HTTP interface takes and answers, with its limits."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from recbole_mm.recommend.preferences import Wishes

MAX_BODY_BYTES = 65_536
MAX_WATCHED, MAX_EXCLUDED, MAX_GENRES, MAX_K = 500, 1_000, 50, 200
MAX_EXPLAINED = 50  # recommendations that are given reasons

Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Weight = Annotated[float, Field(ge=-100, le=100, allow_inf_nan=False)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class WatchedFilm(_Model):
    """A film that a person has watched: an id or a title, and what they thought of it."""

    item: Name = Field(description="An id of the catalogue, or a title.", examples=["Toy Story (1995)"])
    rating: float | None = Field(None, allow_inf_nan=False, description="On the data set's scale, see /api/about.")
    like: bool | None = Field(None, description="Instead of a rating: true is the best one, false the worst.")

    @model_validator(mode="after")
    def _one(self) -> "WatchedFilm":
        if self.rating is not None and self.like is not None:
            raise ValueError("rating and like exclude each other")
        return self


class Question(_Model):
    """A person: a user of the data set, or films and genres; and what they wish for."""

    user: Name | None = Field(None, description="A user whom the model was trained on.")
    watched: list[WatchedFilm] = Field(default_factory=list, max_length=MAX_WATCHED)
    genres: list[Name] = Field(default_factory=list, max_length=MAX_GENRES, description="Preferred.")
    only_genres: list[Name] = Field(default_factory=list, max_length=MAX_GENRES, description="No film without one.")
    exclude: list[Name] = Field(default_factory=list, max_length=MAX_EXCLUDED)
    low_ratings: Literal["against", "as_trained"] = "against"
    genre_weight: float = Field(1.0, ge=0, le=100, allow_inf_nan=False)
    lean: dict[Name, Weight] = Field(default_factory=dict, max_length=20, description="By modality: towards likeness.")
    diversity: float = Field(0.0, ge=0, le=1, allow_inf_nan=False)

    def wishes(self, best: float, worst: float) -> Wishes:
        """The same for the recommender; ``best`` and ``worst`` are the ratings that like and dislike stand for."""
        liked = {None: None, True: best, False: worst}
        return Wishes(
            user=self.user,
            watched=tuple((w.item, w.rating if w.like is None else liked[w.like]) for w in self.watched),
            genres=tuple(self.genres),
            only_genres=tuple(self.only_genres),
            exclude=tuple(self.exclude),
            low_ratings=self.low_ratings,
            genre_weight=self.genre_weight,
            lean=self.lean,
            diversity=self.diversity,
        )


class RecommendQuestion(Question):
    """A person, how many films, and whether to give reasons."""

    k: int = Field(10, ge=1, le=MAX_K)
    explain: bool = False

    @model_validator(mode="after")
    def _bounded(self) -> "RecommendQuestion":
        if self.explain and self.k > MAX_EXPLAINED:
            raise ValueError(f"k={self.k} with explain; expected at most {MAX_EXPLAINED}")
        return self


class ExplainQuestion(Question):
    """A person, and the film whose score is to be explained."""

    item: Name


class FilmAnswer(_Model):
    """One film; ``poster`` tells whether /api/films/{item}/poster has one."""

    item: str
    title: str
    year: int | None
    genres: list[str]
    poster: bool


class FilmPartAnswer(_Model):
    """What a watched film carries of a score; ``liked`` is false where it counts against."""

    film: FilmAnswer
    liked: bool
    contribution: float
    by: dict[str, float]
    without: float | None


class WhyAnswer(_Model):
    """What a score is made of: the films' contributions + profile + popularity + genres add up to it."""

    score: float
    films: list[FilmPartAnswer]
    profile: float
    popularity: float
    genres: float
    modalities: dict[str, float]


class RecommendationAnswer(_Model):
    """One line of a ranked list."""

    rank: int
    film: FilmAnswer
    score: float
    why: WhyAnswer | None


class ListAnswer(_Model):
    """A ranked list, and the watched films as they were understood."""

    recommendations: list[RecommendationAnswer]
    watched: list[FilmAnswer]


class FilmsAnswer(_Model):
    """Films that fit a search, best first."""

    films: list[FilmAnswer]


class SimilarAnswer(_Model):
    """A film and its cosine."""

    rank: int
    film: FilmAnswer
    similarity: float


class SimilarsAnswer(_Model):
    """Films like one film."""

    similar: list[SimilarAnswer]


class AboutAnswer(_Model):
    """What is served."""

    model: str
    dataset: str
    films: int
    new_users: bool
    genres: list[str]
    modalities: list[str]
    posters: int
    rating: dict[str, float]
    limits: dict[str, int]


class StatusAnswer(_Model):
    """``ok``, ``ready`` or ``starting``."""

    status: str


class ErrorAnswer(_Model):
    """One line: what was got, what was expected."""

    error: str
