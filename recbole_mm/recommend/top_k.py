"""The k best items: of one row of scores, exactly for many users by blocks of a matrix product, and made diverse.

Shapes: U users, I items, D width.
"""

import numpy as np

from recbole_mm.model.scoring import Array

_CELLS = 1 << 19  # scores held at a time: 2 MB, which stay in the processor's cache between product and comparison
_LEAST, _MOST, _FIRST = 2_048, 65_536, 2_048  # items of a block; the first only sets the bar for the others
_USERS = 128


def best(scores: Array, k: int) -> Array:
    """Positions of the k highest scores, best first, equal ones by position; those at -inf are left out."""
    k = min(k, len(scores))
    if k <= 0:
        return np.zeros(0, dtype=np.int64)
    bar = -np.inf
    groups = max(4 * k, 64)
    if len(scores) >= 4 * groups:
        # k groups have a maximum of at least the k-th largest one: no more than a few scores reach it
        rows = len(scores) // groups
        maxima = np.maximum.reduce(scores[: rows * groups].reshape(rows, groups))
        maxima.partition(groups - k)
        bar = maxima[groups - k]
    top = (scores >= bar if bar > -np.inf else scores > bar).nonzero()[0]
    # of those equal to the last, the first ones stay: they come in order, and the sort is stable
    return np.asarray(top[(-scores[top]).argsort(kind="stable")][:k])


def top_k(users: Array, items: Array, k: int, bias: Array | None = None) -> tuple[Array, Array]:
    """Exact top k of users @ items.T + bias: ids and scores, [U, k] each, best first, equal ones by id.

    Never more than a few MB of scores at a time: a block of the product is compared with each user's k-th best so
    far, and only what exceeds it is looked at again.
    """
    k = min(k, len(items))
    ids = np.empty((len(users), k), dtype=np.int64)
    scores = np.empty((len(users), k), dtype=np.float32)
    for start in range(0, len(users), _USERS):
        rows = slice(start, start + _USERS)
        ids[rows], scores[rows] = _batch(np.ascontiguousarray(users[rows], dtype=np.float32), items, k, bias)
    return ids, scores


def _batch(users: Array, items: Array, k: int, bias: Array | None) -> tuple[Array, Array]:
    n_users, n_items = len(users), len(items)
    width = min(_MOST, max(_LEAST, _CELLS // n_users))
    buffer = np.empty(n_users * max(width, k, _FIRST), dtype=np.float32)
    start, stop = 0, min(n_items, max(k, _FIRST))
    ids, found = np.zeros((n_users, k), dtype=np.int64), np.empty((n_users, k), dtype=np.float32)
    while start < n_items:
        block = buffer[: n_users * (stop - start)].reshape(n_users, stop - start)
        np.matmul(users, items[start:stop].T, out=block)
        if bias is not None:
            block += bias[start:stop]
        if start == 0:
            ids = np.argpartition(block, stop - k, axis=1)[:, stop - k :]
            found = np.take_along_axis(block, ids, axis=1)
        else:
            hits = np.flatnonzero(block > found.min(axis=1)[:, None])
            if len(hits):
                row, column = np.divmod(hits, stop - start)
                rows, row = np.unique(row, return_inverse=True)
                ids[rows], found[rows] = _merge(ids[rows], found[rows], row, column + start, block.ravel()[hits])
        start, stop = stop, min(n_items, stop + width)
    order = np.lexsort((ids, -found), axis=1)
    return np.take_along_axis(ids, order, axis=1), np.take_along_axis(found, order, axis=1)


def _merge(ids: Array, scores: Array, row: Array, new_ids: Array, new_scores: Array) -> tuple[Array, Array]:
    """The k best of each row's own [r, k] and of new candidates, given flat with their rows."""
    n_rows, k = ids.shape
    rows = np.concatenate([np.repeat(np.arange(n_rows), k), row])
    all_ids, all_scores = np.concatenate([ids.ravel(), new_ids]), np.concatenate([scores.ravel(), new_scores])
    order = np.lexsort((all_ids, -all_scores, rows))
    counts = np.bincount(rows, minlength=n_rows)
    starts = np.concatenate([[0], counts.cumsum()[:-1]])
    kept = order[(starts[:, None] + np.arange(k)).ravel()]
    return all_ids[kept].reshape(n_rows, k), all_scores[kept].reshape(n_rows, k)


def diverse(relevance: Array, likeness: Array, k: int, diversity: float) -> Array:
    """Maximal marginal relevance: positions of k candidates, each the best of (1 - d) relevance - d max likeness.

    ``relevance`` [n] is brought to 0..1; ``likeness`` [n, n] is to those chosen already. Source: Carbonell &
    Goldstein, SIGIR 1998.
    """
    spread = float(relevance.max() - relevance.min()) if len(relevance) else 0.0
    relative = (relevance - relevance.min()) / spread if spread > 0 else np.zeros_like(relevance)
    chosen: list[int] = []
    closest = np.zeros(len(relevance), dtype=np.float32)
    left = np.ones(len(relevance), dtype=bool)
    while len(chosen) < min(k, len(relevance)):
        value = np.where(left, (1 - diversity) * relative - diversity * closest, -np.inf)
        pick = int(np.argmax(value))
        chosen.append(pick)
        left[pick] = False
        closest = likeness[pick] if len(chosen) == 1 else np.maximum(closest, likeness[pick])
    return np.array(chosen, dtype=np.int64)
