"""The GL-score (GenreLike-score) of (user, movie) pairs and the user embeddings built on it; pure arrays.

    U^c_u = sum of M_i over the movies i that user u labelled c,   c in dislike, neutral, like
    (d, n, l) = (M_m . U^D, M_m . U^N, M_m . U^L)
    GL(u, m) = (l + n / 2) / (l + n + d)
    U_emb(u) = 1 / |S| sum_{i in S} GL(u, i) x_i,  S: the user's movies with a label of L, L+D, L+N or L+D+N

M_i is the multi-hot genre vector, x_i the movie's vector. Source: Mondal et al., "Genre Effect Toward Developing a
Multi-Modal Movie Recommendation System in Indian Setting", IEEE Transactions on Consumer Electronics 2023.

Differs: ``KnownLabels.leave_out`` takes a pair's own label out of everything that is computed for it (the paper leaves
it in, so that the label to be predicted is part of the input), and where l + n + d = 0 the score is ``undefined``,
1/2 by default: neither liked nor disliked (the notebooks put 0.01 there and scale the score by 100).

Shapes: U users, I items, G genres, P pairs, E entries of sequences, F width of a movie's vector.
"""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from recbole_mm.known_labels import Ids, KnownLabels, Sequences

UserSet = Literal["L", "L+D", "L+N", "L+D+N"]
USER_SETS: dict[str, tuple[int, ...]] = {"L": (2,), "L+D": (2, 0), "L+N": (2, 1), "L+D+N": (2, 1, 0)}  # classes
UNDEFINED = 0.5
_CHUNK = 1 << 19  # pairs, or entries, computed at a time
_PAIRS = 4096  # pairs whose sequences are laid out at a time
Floats = NDArray[np.float64]


def genre_sums(known: KnownLabels, genres: NDArray[np.float32]) -> NDArray[np.float32]:
    """U^D, U^N, U^L of every user from genres [I, G]; [U, 3, G]."""
    starts = np.concatenate([[0], np.cumsum(np.bincount(known.user * 3 + known.cls, minlength=known.n_users * 3))])
    order = np.argsort(known.user * 3 + known.cls, kind="stable")
    ones = np.ones(len(known), dtype=np.float32)
    rows = csr_matrix((ones, known.item[order], starts), shape=(known.n_users * 3, known.n_items))
    return np.asarray(rows @ genres, dtype=np.float32).reshape(known.n_users, 3, -1)


def genre_likes(
    known: KnownLabels,
    genres: NDArray[np.float32],
    users: Ids,
    items: Ids,
    *,
    sums: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """(d, n, l) of each pair, [P, 3]; ``sums`` are :func:`genre_sums` where they are at hand."""
    sums = genre_sums(known, genres) if sums is None else sums
    result = np.empty((len(users), 3), dtype=np.float32)
    for start in range(0, len(users), _CHUNK):
        part = slice(start, start + _CHUNK)
        own_genres = genres[items[part]]
        result[part] = np.einsum("pcg,pg->pc", sums[users[part]], own_genres)
        if known.leave_out:
            own = known.own(users[part], items[part])
            at = np.flatnonzero(own >= 0)
            result[start + at, known.cls[own[at]]] -= (own_genres[at] ** 2).sum(1)
    return result


def own_likes(known: KnownLabels, genres: NDArray[np.float32]) -> NDArray[np.float32]:
    """(d, n, l) of the known labels themselves, their own label among them, [K, 3]."""
    sums = genre_sums(known, genres)
    result = np.empty((len(known), 3), dtype=np.float32)
    for start in range(0, len(known), _CHUNK):
        part = slice(start, start + _CHUNK)
        result[part] = np.einsum("pcg,pg->pc", sums[known.user[part]], genres[known.item[part]])
    return result


def oriented(known: KnownLabels, parts: NDArray[np.float32]) -> NDArray[np.float32]:
    """(d, n, l) as the score reads them: like and dislike exchanged where the labels say so."""
    return parts[..., ::-1] if known.exchanged else parts


def score(parts: NDArray[Any], undefined: float = UNDEFINED) -> Floats:
    """GL from (d, n, l) [..., 3]; ``undefined`` where their sum is 0."""
    disliked, neutral, liked = np.moveaxis(np.asarray(parts, dtype=np.float64), -1, 0)
    total = disliked + neutral + liked
    return np.where(total > 0, (liked + neutral / 2) / np.where(total > 0, total, 1.0), undefined)


def gl_score(
    known: KnownLabels,
    genres: NDArray[np.float32],
    users: Ids,
    items: Ids,
    *,
    undefined: float = UNDEFINED,
) -> Floats:
    """GL of each pair, [P]."""
    return score(oriented(known, genre_likes(known, genres, users, items)), undefined)


def entry_scores(
    known: KnownLabels,
    genres: NDArray[np.float32],
    users: Ids,
    items: Ids,
    sequences: Sequences,
    *,
    likes: NDArray[np.float32] | None = None,
    undefined: float = UNDEFINED,
) -> Floats:
    """GL(u, i) of each entry of the sequences of pairs, as if the pair's own label were unknown, [E].

    An entry's own label stays in its score, as in the paper: it is known whenever the entry is. ``likes`` are
    :func:`own_likes` where they are at hand.
    """
    pair, at = sequences
    likes = own_likes(known, genres) if likes is None else likes
    parts = likes[at]
    if known.leave_out:
        own = known.own(users, items)[pair]
        there = np.flatnonzero(own >= 0)
        for start in range(0, len(there), _CHUNK):
            rows = there[start : start + _CHUNK]
            shared = (genres[known.item[at[rows]]] * genres[items[pair[rows]]]).sum(1)
            parts[rows, known.cls[own[rows]]] -= shared
    return score(oriented(known, parts), undefined)


def user_embeddings(
    known: KnownLabels,
    genres: NDArray[np.float32],
    vectors: NDArray[Any],
    users: Ids,
    items: Ids,
    *,
    user_set: UserSet = "L",
    weighted: bool = True,
    undefined: float = UNDEFINED,
) -> NDArray[np.float32]:
    """U_emb of each pair's user, [P, F]; zero for a user without a label in the set. Unweighted, GL counts as 1.

    Without ``leave_out`` a user's embedding is the same in all pairs, and is computed once.
    """
    likes = own_likes(known, genres)
    result = np.zeros((len(users), vectors.shape[1]), dtype=np.float32)
    rows, inverse = np.arange(len(users)), None
    if not known.leave_out:
        _, rows, inverse = np.unique(users, return_index=True, return_inverse=True)
    for start in range(0, len(rows), _PAIRS):
        part = rows[start : start + _PAIRS]
        sequences = known.of_users(users[part], items[part])
        chosen = np.isin(known.cls[sequences.at], USER_SETS[user_set])
        sequences = Sequences(sequences.pair[chosen], sequences.at[chosen])
        weight = np.ones(len(sequences.pair))
        if weighted:
            weight = entry_scores(
                known, genres, users[part], items[part], sequences,
                likes=likes, undefined=undefined,
            )  # fmt: skip
        result[part] = _weighted_mean(sequences, weight, known, vectors, len(part))
    return result if inverse is None else result[rows][inverse]


def _weighted_mean(
    sequences: Sequences, weight: Floats, known: KnownLabels, vectors: NDArray[Any], n_pairs: int
) -> NDArray[np.float32]:
    """1 / n sum weight x over each pair's entries, [P, F]; zero for a pair without entries."""
    count = np.bincount(sequences.pair, minlength=n_pairs)
    starts = np.concatenate([[0], np.cumsum(count)])
    share = (weight / count[sequences.pair]).astype(np.float32)
    rows = csr_matrix((share, known.item[sequences.at], starts), shape=(n_pairs, known.n_items))
    return np.asarray(rows @ vectors, dtype=np.float32)
