"""Seconds and memory of the GL-score: vectorised against a loop over pairs, and 25 million labels at once.

usage: glscore.py [--labels 25000000]
"""

import argparse
import resource
import time

import numpy as np

from recbole_mm.glscore import gl_score
from recbole_mm.known_labels import KnownLabels


def made_up(n_labels: int, n_users: int, n_items: int, n_genres: int) -> tuple[KnownLabels, np.ndarray]:
    """Labels of random pairs, each pair once, and genres of about two in twenty."""
    draw = np.random.default_rng(0)
    keys = np.unique(draw.integers(0, (n_users - 1) * (n_items - 1), round(n_labels * 1.02)))[:n_labels]
    user, item = keys // (n_items - 1) + 1, keys % (n_items - 1) + 1
    genres = (draw.random((n_items, n_genres)) < 0.1).astype(np.float32)
    return KnownLabels(user, item, draw.integers(-1, 2, len(keys)), n_users, n_items), genres


def by_pair(known: KnownLabels, genres: np.ndarray, users: np.ndarray, items: np.ndarray) -> list[float]:
    """The equations, a pair at a time; a pair's own label left out."""
    rows: dict[int, list[int]] = {}
    for at, user in enumerate(known.user.tolist()):
        rows.setdefault(user, []).append(at)
    found = []
    for user, item in zip(users.tolist(), items.tolist(), strict=True):
        parts = [0.0, 0.0, 0.0]
        for at in rows.get(user, ()):
            if known.item[at] != item:
                parts[known.cls[at]] += float(genres[item] @ genres[known.item[at]])
        d, n, like = parts
        found.append((like + n / 2) / (d + n + like) if d + n + like > 0 else 0.5)
    return found


def main() -> None:
    """Print the ratio, then the large case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--labels", type=int, default=25_000_000)
    given = parser.parse_args()
    known, genres = made_up(20_000, 800, 600, 18)
    gl_score(known, genres, known.user[:10], known.item[:10])
    start = time.process_time()
    fast = gl_score(known, genres, known.user, known.item)
    vectorised = time.process_time() - start
    start = time.process_time()
    slow = by_pair(known, genres, known.user[:2000], known.item[:2000])
    loop = (time.process_time() - start) * len(known) / 2000
    print(f"20,000 labels: loop {loop:.2f} s, vectorised {vectorised:.4f} s, {loop / vectorised:.0f} x")
    print(f"largest difference {np.abs(fast[:2000] - slow).max():.1e}")
    start = time.process_time()
    known, genres = made_up(given.labels, 160_000, 60_000, 20)
    made = time.process_time() - start
    start = time.process_time()
    gl_score(known, genres, known.user, known.item)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    spent = time.process_time() - start
    print(f"{len(known):,} labels: {spent:.1f} s (made and sorted in {made:.1f} s), peak {peak:.2f} GB")


if __name__ == "__main__":
    main()
