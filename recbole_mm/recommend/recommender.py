"""Recommending to people, known or new, from a finished run."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np

from recbole_mm.errors import ConfigError, RequestError
from recbole_mm.model.scoring import Array, ScoringParts
from recbole_mm.recommend import store
from recbole_mm.recommend.ann import VectorIndex
from recbole_mm.recommend.content import Content
from recbole_mm.recommend.explain import Explanation, reasons
from recbole_mm.recommend.histories import Histories, LowRatings, RatingScale
from recbole_mm.recommend.preferences import Preferences, Scored, Watched, Wishes, pairs_of
from recbole_mm.recommend.ranking import Ranked, Recommendation, Similar
from recbole_mm.recommend.scorer import Person, Scorer
from recbole_mm.recommend.titles import FilmIndex
from recbole_mm.recommend.top_k import best, diverse

_T = TypeVar("_T")
_SAMPLED_USERS = 200  # whose recall an index is measured on
MMR_POOL = 10  # diversity chooses among that many times k


Asked = tuple[Wishes, int, bool]  # wishes, k, whether to explain


def _tried(step: Callable[..., _T], *given: Any) -> _T | RequestError:
    """What a step answers, or why it does not."""
    try:
        return step(*given)
    except RequestError as error:
        return error


class Recommender:
    """Answers from a run's ``serving`` folder; RecBole and torch are loaded only to make it, or for a model without it.

    Use :meth:`load`.
    """

    def __init__(self, opened: store.Store, aliases: Mapping[str, str] | None = None) -> None:
        self.store, manifest = opened, opened.manifest
        self.parts: ScoringParts | None = opened.parts() if manifest.new_users else None
        self.scorer = None if self.parts is None else Scorer(self.parts, opened.array("fold_in"))
        self.popularity = opened.needed("popularity")
        self.films = FilmIndex(opened.catalogue, self.popularity, aliases)
        self.content = Content({n: opened.needed(f"features.{n}") for n in manifest.modalities}, opened.needed("mask"))
        self.scale = RatingScale(**manifest.rating)
        self.histories = Histories(opened.needed("starts"), opened.needed("watched"), opened.needed("weights"))
        self.seen = Histories(opened.needed("seen_starts"), opened.needed("seen"))
        self.user_ids = {token: i for i, token in enumerate(opened.users) if i}
        self.preferences = Preferences(opened.catalogue, self.content)
        self._live: Any = None
        self._index: VectorIndex | None = None

    @classmethod
    def load(cls, run_dir: str | Path, *, aliases: Mapping[str, str] | None = None) -> Self:
        """Open a finished run; the first time, or after it has changed, its ``serving`` folder is made.

        Args:
            run_dir: the run's directory.
            aliases: other ids of films, such as IMDb's, to item tokens.

        Raises:
            CheckpointError: there is no finished run, or its ``serving`` folder was tampered with.
        """
        where = Path(run_dir)
        opened = store.read(where)
        if opened is None:
            from recbole_mm.recommend.export import export

            export(where)
            opened = store.read(where)
            assert opened is not None, "written above"
        return cls(opened, aliases)

    # -- questions --------------------------------------------------------------------------------------------

    def recommend(
        self,
        *,
        user: str | None = None,
        watched: Watched = (),
        genres: Sequence[str] = (),
        only_genres: Sequence[str] = (),
        exclude: Sequence[str] = (),
        k: int = 10,
        low_ratings: LowRatings = "against",
        genre_weight: float = 1.0,
        lean: Mapping[str, float] | None = None,
        diversity: float = 0.0,
        explain: bool = False,
    ) -> list[Recommendation]:
        """The k films that suit a person best and that they have not seen.

        Args:
            user: token of a user whom the model was trained on.
            watched: titles or tokens, with ratings or None; of a new person, or on top of a user's own.
            genres: preferred: a film with all of them gains ``genre_weight`` standard deviations of the scores.
            only_genres: no film without one of them.
            exclude: titles or tokens to leave out.
            k: how many; fewer are answered where fewer are left.
            low_ratings: ``against``: a rating below the middle of the scale counts against; ``as_trained``: all count
                for, as the model takes its own users' (a low one weighs less).
            genre_weight: see ``genres``.
            lean: by modality, how many standard deviations likeness to what was watched may add: plot or poster.
            diversity: 0 for the best k, up to 1 for the most unlike ones (MMR).
            explain: add the reasons.

        Raises:
            RequestError: an unknown film, user, genre or modality; nothing to go by; nothing left to recommend.
        """
        wishes = Wishes(
            user, pairs_of(watched), tuple(genres), tuple(only_genres), tuple(exclude), low_ratings, genre_weight,
            dict(lean or {}), diversity,
        )  # fmt: skip
        return self.answer(wishes, k, explain=explain)

    def answer(self, wishes: Wishes, k: int, *, explain: bool = False) -> list[Recommendation]:
        """As :meth:`recommend`, for wishes put together before."""
        found = self.rank([(wishes, k, explain)])[0]
        if isinstance(found, RequestError):
            raise found
        return found.in_words(self.films, self.content.names)

    def rank(self, asked: Sequence[Asked]) -> list[Ranked | RequestError]:
        """Lists for several people, scored by one matrix product and explained side by side; or why there is none."""
        people = [_tried(self._asking, *one) for one in asked]
        scores: dict[int, Array] = {}
        if self.scorer is not None and self._index is None:
            scorable = {i: p[0] for i, p in enumerate(people) if not isinstance(p, RequestError) and not p[0].unknown}
            if scorable:
                scores = dict(zip(scorable, self.scorer.scores(list(scorable.values())), strict=True))
        found = [
            who if isinstance(who, RequestError) else _tried(self._rank, *who, *asked[i], scores.get(i))
            for i, who in enumerate(people)
        ]
        unexplained = {i: of for i, of in enumerate(found) if not isinstance(of, RequestError) and asked[i][2]}
        if unexplained:
            assert self.scorer is not None, "checked for all who ask for reasons"
            scored, ranked = zip(*unexplained.values(), strict=True)
            why = reasons(self.scorer, self.content, self.popularity, scored, [one.items for one in ranked])
            for i, one, because in zip(unexplained, ranked, why, strict=True):
                found[i] = None, replace(one, reasons=because)
        return [of if isinstance(of, RequestError) else of[1] for of in found]

    def _asking(self, wishes: Wishes, k: int, explain: bool) -> tuple[Person, tuple[int, ...]]:
        self._check_k(k)
        self.preferences.check(wishes)
        if explain:
            self._check_parts()
        named = self._named(wishes)
        return self._person(wishes, named), named

    def _rank(
        self, person: Person, named: tuple[int, ...], wishes: Wishes, k: int, explain: bool, scores: Array | None
    ) -> tuple[Scored | None, Ranked]:
        """A person's list, not explained yet; and what they scored, unless the list comes from the index."""
        plain = not (wishes.genres or wishes.only_genres or wishes.lean or wishes.diversity or explain)
        if self._index is not None and plain:
            ids, near = self._approximate(self._index, person, wishes, k)
            if len(ids) == k:
                return None, Ranked(person, ids, near, named)
        scored = self._score_person(person, wishes, scores)
        allowed = self._allowed(scored, wishes)
        if wishes.diversity > 0:
            pool = best(allowed, max(MMR_POOL * k, 50))
            items = pool[diverse(allowed[pool], self.content.among(pool), k, wishes.diversity)]
        else:
            items = best(allowed, k)
        if not len(items):
            raise RequestError("no film is left to recommend; expected fewer exclusions, or other genres")
        return scored, Ranked(person, items, allowed[items], named)

    def approximate(self, recall: float = 0.99) -> VectorIndex:
        """From now on, answer plain questions (no genres, lean, diversity or reasons) by an index, made if need be.

        Raises:
            ConfigError: the model does not score by vectors alone, faiss is not installed, or the recall not reached.
        """
        parts = self.parts
        if parts is None or parts.items is None or parts.matching != "dot" or parts.item_item is not None:
            raise ConfigError(
                f"{self.store.manifest.model} does not score by products of vectors alone; an index serves VBPR, BPR, "
                "LightGCN, and MMFusion with matching: dot and item_item_weight: 0"
            )
        path = self.store.run_dir / store.FOLDER / "index.faiss"
        self._index = VectorIndex.read(path)
        if self._index is None or self._index.recall < recall:
            people = [self._person(Wishes(user=token), ()) for token in list(self.user_ids)[:_SAMPLED_USERS]]
            vectors = self._vectors(people)
            bias = None if parts.bias is None else parts.bias[1:]
            self._index = VectorIndex.build(parts.items[1:], vectors, bias=bias, recall=recall)
            self._index.save(path)
        return self._index

    def explain(self, item: str, *, user: str | None = None, watched: Watched = (), **wishes: Any) -> Explanation:
        """Why a film has its score for a person, with the score without each watched film.

        Args:
            item: title or token.
            user: as for :meth:`recommend`, and so are the others.
            watched: as for :meth:`recommend`.
            wishes: the other fields of :class:`Wishes`.

        Raises:
            RequestError: as :meth:`recommend`; or the model has no parts to take a score apart by.
        """
        asked = Wishes(user=user, watched=pairs_of(watched), **wishes)
        return self.explain_wishes(asked, item)

    def explain_wishes(self, wishes: Wishes, item: str) -> Explanation:
        """As :meth:`explain`, for wishes put together before."""
        self.preferences.check(wishes)
        wanted, person = self.films.find(item), self._person(wishes, self._named(wishes))
        scored, items = self._score_person(person, wishes), np.array([wanted])
        why = reasons(self._check_parts(), self.content, self.popularity, [scored], [items])[0]
        whole = Ranked(person, items, scored.scores[items], (), why).in_words(self.films, self.content.names)[0].why
        assert whole is not None, "given above"
        tokens = {self.films.catalogue.tokens[i]: at for at, i in enumerate(person.items)}
        films = []
        for part in whole.films:
            rest = person.without(tokens[part.film.item])
            films.append(replace(part, without=float(self._score_person(rest, wishes).scores[wanted])))
        return replace(whole, films=tuple(films))

    def similar(self, item: str, k: int = 10, *, by: str | None = None) -> list[Similar]:
        """The k films most like one: by one modality, or by the mean over those that both have.

        Raises:
            RequestError: an unknown film or modality, or a run without modalities.
        """
        self._check_k(k)
        if by is not None:
            self.content.check(by)
        wanted = self.films.find(item)
        cosines = self.content.similar(wanted, by)
        if by is not None:
            cosines = np.where(self.content.mask[:, self.content.names.index(by)], cosines, -np.inf)
        cosines[0] = cosines[wanted] = -np.inf
        return [
            Similar(rank, self.films.film(int(i)), float(cosines[i]))
            for rank, i in enumerate(best(cosines, k), start=1)
        ]

    def everyone(self, k: int = 10) -> Iterator[tuple[str, list[Recommendation]]]:
        """Every user's token and top k, one at a time: memory does not grow with the number of users."""
        for token in self.user_ids:
            yield token, self.answer(Wishes(user=token), k)

    def history(self, user: str) -> dict[str, float]:
        """What the model knows a user by: tokens of the training part's items, with their history weights."""
        watched = self.histories.of(self._user(user))
        tokens = self.films.catalogue.tokens
        return {tokens[i]: float(w) for i, w in zip(watched.items, watched.weights, strict=True)}

    # -- steps ------------------------------------------------------------------------------------------------

    def _check_k(self, k: int) -> None:
        most = len(self.films.catalogue.tokens) - 1
        if not 1 <= k <= most:
            raise RequestError(f"k={k}; expected 1 to the number of films, {most}")

    def _user(self, token: str) -> int:
        if token not in self.user_ids:
            raise RequestError(
                f"no user '{token}' in '{self.store.manifest.dataset}'; somebody new is told by the films they watched"
            )
        return self.user_ids[token]

    def _check_parts(self) -> Scorer:
        if self.scorer is None:
            raise RequestError(f"{self.store.manifest.model} has no parts to take a score apart by")
        return self.scorer

    def _named(self, wishes: Wishes) -> tuple[int, ...]:
        return tuple([self.films.find(name) for name, _ in wishes.watched])

    def _person(self, wishes: Wishes, named: Sequence[int]) -> Person:
        """``named`` are the ids of the films that they say they watched."""
        weight, low_ratings = self.scale.weight, wishes.low_ratings
        ratings = {i: weight(rating, low_ratings) for i, (_, rating) in zip(named, wishes.watched, strict=True)}
        user = None if wishes.user is None else self._user(wishes.user)
        if user is not None:
            own = self.histories.of(user)
            if not ratings:
                return Person(own.items, own.weights, user)
            ratings = {**dict(zip(own.items.tolist(), own.weights.tolist(), strict=True)), **ratings}
        items = np.fromiter(ratings, dtype=np.int64, count=len(ratings))
        return Person(items, np.fromiter(ratings.values(), dtype=np.float32, count=len(ratings)), user)

    def _vectors(self, people: Sequence[Person]) -> Array:
        vectors = None if self.scorer is None else self.scorer.vectors(people)
        assert vectors is not None, "checked by approximate()"
        return vectors

    def _approximate(self, index: VectorIndex, person: Person, wishes: Wishes, k: int) -> tuple[Array, Array]:
        """Ids and scores by the index; fewer than k where most of what it found is blocked."""
        blocked = [*person.items.tolist(), *(self.films.find(name) for name in wishes.exclude)]
        if person.user is not None:
            blocked += self.seen.of(person.user).items.tolist()
        ids, scores = (found[0] for found in index.search(self._vectors([person]), k + len(set(blocked))))
        kept = np.flatnonzero((ids >= 0) & ~np.isin(ids + 1, blocked))[:k]
        return ids[kept] + 1, scores[kept]

    def _score_person(self, person: Person, wishes: Wishes, scores: Array | None = None) -> Scored:
        """``scores`` [I] are the model's, where they are at hand."""
        if person.unknown:
            scores = np.log1p(self.popularity)
        elif scores is None:
            scores = self._live_scores(person, wishes) if self.scorer is None else self.scorer.scores([person])[0]
        if not (wishes.lean or wishes.genres):
            return Scored(person, scores)
        spread = float(scores[1:].std()) or 1.0
        leans = self.preferences.leans(wishes, person, spread)
        scores = sum((lean.scale * lean.likeness for lean in leans.values()), start=scores)
        bonus = self.preferences.genre_bonus(wishes, spread)
        return Scored(person, scores if bonus is None else scores + bonus, bonus, leans)

    def _live_scores(self, person: Person, wishes: Wishes) -> Array:
        """Scores by the model itself, for models without parts: only of users whom it was trained on."""
        if person.user is None or wishes.watched:
            from recbole_mm.recommend.recbole_parts import refusal

            raise RequestError(refusal(self.store.manifest.model))
        from recbole_mm.recommend.live import LiveModel

        if self._live is None:
            self._live = LiveModel(self.store.run_dir)
        return np.asarray(self._live.scores(person.user))

    def _allowed(self, scored: Scored, wishes: Wishes) -> Array:
        """The scores [I], -inf for what may not be recommended: padding, seen, watched, excluded, of another genre."""
        allowed, person = scored.scores.copy(), scored.person
        allowed[0] = allowed[person.items] = -np.inf
        if person.user is not None:
            allowed[self.seen.of(person.user).items] = -np.inf
        if wishes.exclude:
            allowed[[self.films.find(name) for name in wishes.exclude]] = -np.inf
        if wishes.only_genres:
            allowed[~self.preferences.allowed(wishes)] = -np.inf
        return allowed
