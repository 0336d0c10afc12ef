"""Why a film is recommended: what each watched film and each modality carries of the score, adding up to it.

What a part carries is what the score loses when that part is silenced while everything that normalises is held: the
attention's and the fusion's weights, the length in a cosine, the active units of an MLP. With those held, every model
here is bilinear in what was watched and in the modalities of the film, so that the parts do not depend on an order and
add up to the score, with no remainder. What a film carries through item-item weights is split by modality by solving
the weights again without each modality; the rest of it is what people watched together.
``without`` is another number: the score of a person who never watched that film, everything computed anew.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from recbole_mm.model.scoring import Array
from recbole_mm.recommend.scorer import Person, Scorer
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
class Table:
    """Contributions to the scores of k films: [k, n + 2, M + 1].

    Rows: the n watched films, profile, popularity. Columns: the M modalities, and what none of them carries.
    """

    values: Array
    names: tuple[str, ...]

    @property
    def totals(self) -> Array:
        """The scores, [k]."""
        return np.asarray(self.values.sum(axis=(1, 2)))


def contributions(scorer: Scorer, person: Person, items: Array, names: tuple[str, ...]) -> Table:
    """Take apart the model's scores of items [k] by watched film and modality."""
    parts, n, m = scorer.parts, len(person.items), len(names)
    values = np.zeros((len(items), n + 2, m + 1))
    taste = scorer.taste(person)
    if taste is not None and parts.items is not None:
        wholes = np.asarray(parts.items[items], dtype=np.float64)
        columns = _split(wholes, {name: part[items] for name, part in parts.item_parts.items()}, names)  # [k, M+1, D]
        rows = np.vstack([taste.terms, taste.own[None]]).astype(np.float64)  # [n + 1, D]
        form = scorer.bilinear(taste.vector, np.asarray(parts.items[items]))
        values[:, : n + 1] += np.matmul(rows[None] * form.both[:, None], columns.transpose(0, 2, 1))
        values[:, : n + 1, m] += form.of_user @ rows.T
        values[:, n + 1] += (form.of_item[:, None] * columns).sum(axis=2)
        values[:, n + 1, m] += form.constant
    if parts.bias is not None:
        bias = np.asarray(parts.bias[items], dtype=np.float64)
        values[:, n + 1] += _split(bias, {name: part[items] for name, part in parts.bias_parts.items()}, names)
    if parts.item_item is not None and n:
        grid = np.ix_(person.items, items)
        by_name = {name: part[grid].T for name, part in parts.item_item_parts.items()}
        split = _split(np.asarray(parts.item_item[grid].T, dtype=np.float64), by_name, names)  # [k, M + 1, n]
        values[:, :n] += split.transpose(0, 2, 1) * person.weights[None, :, None]
    return Table(values, names)


def _split(whole: Array, by_name: Mapping[str, Array], names: tuple[str, ...]) -> Array:
    """The parts of the modalities and what is left of the whole, side by side as axis 1."""
    parts = [np.asarray(by_name[name], dtype=np.float64) if name in by_name else np.zeros_like(whole) for name in names]
    return np.stack([*parts, whole - sum(parts, start=np.zeros_like(whole))], axis=1)


def read_table(
    table: Array, weights: Array, bonuses: Array, scores: Array, watched: Sequence[Film], columns: Sequence[str]
) -> list[Explanation]:
    """Contributions to k films [k, n + 2, M + 1] in words; ``bonuses`` [k] are what the genres asked for add."""
    weighed = weights.tolist()
    order = np.argsort(-table[:, : len(watched)].sum(axis=2), axis=1, kind="stable").tolist()
    by_table = zip(
        order, table.tolist(), table.sum(axis=2).tolist(), table.sum(axis=1).tolist(), bonuses.tolist(),
        scores.tolist(), strict=True,
    )  # fmt: skip
    return [
        Explanation(
            score,
            tuple(FilmPart(watched[j], weighed[j], by_row[j], dict(zip(columns, rows[j], strict=True))) for j in films),
            profile=by_row[-2], popularity=by_row[-1], genres=bonus,
            modalities=dict(zip(columns, by_column, strict=True)),
        )
        for films, rows, by_row, by_column, bonus, score in by_table
    ]  # fmt: skip
