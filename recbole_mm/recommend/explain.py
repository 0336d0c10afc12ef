"""Why a film is recommended: what each watched film and each modality carries of the score, adding up to it.

What a part carries is what the score loses when that part is silenced while everything that normalises is held: the
attention's and the fusion's weights, the length in a cosine, the active units of an MLP. With those held, every model
here is bilinear in what was watched and in the modalities of the film, so that the parts do not depend on an order and
add up to the score, with no remainder. What a film carries through item-item weights is split by modality by solving
the weights again without each modality; the rest of it is what people watched together.
``without`` is another number: the score of a person who never watched that film, everything computed anew.
Shapes: P people, k films each, n that a person has watched, M modalities, D width.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from recbole_mm.model.scoring import Array
from recbole_mm.recommend.content import Content
from recbole_mm.recommend.preferences import Scored
from recbole_mm.recommend.scorer import Laid, Scorer
from recbole_mm.recommend.titles import Film

TOGETHER = "co-watching"  # the column of what no modality carries


@dataclass(frozen=True)
class FilmPart:
    """What one watched film carries of a score, in all and by modality; and the score without it, where asked for."""

    film: Film
    weight: float  # of the watched film in the history; negative: it counts against
    contribution: float
    by: Mapping[str, float]
    without: float | None = None


@dataclass(frozen=True)
class Explanation:
    """score = sum of the films' contributions + profile + popularity + genres.

    ``modalities`` is the same sum taken the other way, with ``co-watching`` for what no modality carries and
    ``genres`` left out: score = sum of modalities + genres.
    """

    score: float
    films: tuple[FilmPart, ...]  # largest first
    profile: float  # a trained user's own vector; for others the regression's constant
    popularity: float  # what the film would score for anybody
    genres: float  # asked for
    modalities: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Reasons:
    """The scores of one person's k films taken apart, as numbers; the watched films come by what they carry."""

    films: Array  # what each carries: in all, by each modality, and by none of them; [k, n, M + 2]
    order: Array  # their positions in the person's history, [k, n]
    facts: Array  # what each modality and what none carries; popularity, profile, genres; [k, M + 4]


def reasons(
    scorer: Scorer, content: Content, popularity: Array, scored: Sequence[Scored], items: Sequence[Array]
) -> list[Reasons]:
    """Take apart the scores of each person's films; people with about as many of both are worked on side by side.

    Args:
        scorer: what scored them.
        content: for the leans that were asked for.
        popularity: [I], the score of people of whom nothing is known.
        scored: the people, P of them.
        items: of each, the ids to explain.
    """
    alike: dict[tuple[int, int], list[int]] = {}
    for at, (one, chosen) in enumerate(zip(scored, items, strict=True)):
        alike.setdefault((len(chosen), len(one.person.items).bit_length()), []).append(at)
    found: dict[int, Reasons] = {}
    for group in alike.values():
        people = [scored[at] for at in group]
        explained = _side_by_side(scorer, content, popularity, people, [items[at] for at in group])
        found.update(zip(group, explained, strict=True))
    return [found[at] for at in range(len(scored))]


def _side_by_side(
    scorer: Scorer, content: Content, popularity: Array, scored: Sequence[Scored], items: Sequence[Array]
) -> list[Reasons]:
    people, chosen, names = [one.person for one in scored], np.stack(items), content.names
    laid = Laid.of(people)
    values = _contributions(scorer, laid, chosen, names)
    for row, (one, person) in enumerate(zip(scored, people, strict=True)):
        n = len(person.items)
        if person.unknown:
            values[:, row] = 0
            values[-1, row, :, 0] = np.log1p(popularity[chosen[row]])
        for name, lean in one.leans.items():
            shares = content.shares(name, chosen[row], person.items, person.signs)
            values[names.index(name), row, :, 2 : n + 2] += lean.scale * shares
    cells = np.empty((*values.shape[1:], len(values) + 1))  # [P, k, n + 2, M + 2]
    cells[..., 0], cells[..., 1:] = values.sum(axis=0, dtype=np.float64), values.transpose(1, 2, 3, 0)
    # the places that a person does not fill come last
    order = np.where(laid.there[:, None], -cells[:, :, 2:, 0], np.inf).argsort(axis=2, kind="stable")
    films = cells[np.arange(len(people))[:, None, None], np.arange(chosen.shape[1])[:, None], order + 2]
    bonus = np.zeros(chosen.shape)
    for row, one in enumerate(scored):
        if one.genre_bonus is not None:
            bonus[row] = one.genre_bonus[chosen[row]]
    facts = np.concatenate([cells[..., 1:].sum(axis=2), cells[:, :, :2, 0], bonus[:, :, None]], axis=2)
    counts = [len(person.items) for person in people]
    return [Reasons(films[row, :, :n], order[row, :, :n], facts[row]) for row, n in enumerate(counts)]


def _contributions(scorer: Scorer, people: Laid, items: Array, names: tuple[str, ...]) -> Array:
    """What the model's scores of items [P, k] are made of, [M + 1, P, k, n + 2].

    First the M modalities, and what none of them carries. Last popularity, profile, the n watched films.
    """
    parts, n = scorer.parts, people.items.shape[1]
    # until the end, the last one is the whole, of which the others are parts
    values = np.zeros((len(names) + 1, *items.shape, n + 2), dtype=np.float32)
    if parts.items is not None:
        tastes = scorer.tastes(people)
        rows = np.concatenate([tastes.own[:, None], tastes.terms], axis=1)  # [P, n + 1, D]
        columns = np.zeros((len(items), len(values), items.shape[1], rows.shape[2]), dtype=np.float32)
        for at, table in _tables(parts.items, parts.item_parts, names):
            columns[:, at] = table.take(items, axis=0)
        form = scorer.bilinear(tastes.vectors, columns[:, -1])
        fitted = (columns * form.both[:, None]).reshape(len(items), -1, rows.shape[2])
        products = np.matmul(rows, fitted.transpose(0, 2, 1)).reshape(*rows.shape[:2], *columns.shape[1:3])
        values[..., 1:] += products.transpose(2, 0, 3, 1)
        if form.of_user is not None and form.of_item is not None and form.constant is not None:
            values[-1, :, :, 1:] += np.matmul(form.of_user, rows.transpose(0, 2, 1))
            values[..., 0] += (form.of_item[:, None] * columns).sum(axis=3).transpose(1, 0, 2)
            values[-1, :, :, 0] += form.constant
    if parts.bias is not None:
        for at, table in _tables(parts.bias, parts.bias_parts, names):
            values[at, :, :, 0] += table.take(items)
    if parts.item_item is not None and n:
        pairs = people.items[:, None] * len(parts.item_item) + items[:, :, None]  # [P, k, n]
        for at, table in _tables(parts.item_item, parts.item_item_parts, names):
            values[at, :, :, 2:] += table.take(pairs) * people.weights[:, None]
    values[-1] -= values[:-1].sum(axis=0)
    return values


def _tables(whole: Array, by_name: Mapping[str, Array], names: tuple[str, ...]) -> list[tuple[int, Array]]:
    """Arrays with their places among the modalities; the whole has the last one."""
    return [(-1, whole), *((at, by_name[name]) for at, name in enumerate(names) if name in by_name)]


def in_words(
    why: Reasons, scores: Array, weights: Array, watched: Sequence[Film], names: Sequence[str]
) -> list[Explanation]:
    """Reasons for films with scores [k]; ``weights`` [n] and ``watched`` in the order of the person's history."""
    columns, weighed = (*names, TOGETHER), weights.tolist()
    numbers = zip(scores.tolist(), why.order.tolist(), why.films.tolist(), why.facts.tolist(), strict=True)
    return [
        Explanation(
            score,
            tuple(
                FilmPart(watched[j], weighed[j], whole, dict(zip(columns, by, strict=True)))
                for j, (whole, *by) in zip(order, films, strict=True)
            ),
            profile, popularity, genres, dict(zip(columns, modalities, strict=True)),
        )
        for score, order, films, (*modalities, popularity, profile, genres) in numbers
    ]  # fmt: skip
