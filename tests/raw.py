"""Small raw data sets of every kind that can be imported, written as their publishers write them."""

import json
from pathlib import Path

import numpy as np

GENRES = ("Drama", "Comedy", "Sci-Fi", "Film-Noir")


def ratings(
    n_users: int = 30, n_items: int = 24, per_user: int = 10, seed: int = 0
) -> list[tuple[str, str, float, int]]:
    """Distinct (user, item, rating, timestamp) rows; ids from 1."""
    draw = np.random.default_rng(seed)
    rows = []
    for user in range(1, n_users + 1):
        for item in draw.permutation(n_items)[:per_user]:
            rows.append((str(user), str(item + 1), int(draw.integers(1, 11)) / 2, 10**9 + int(draw.integers(10**6))))
    return rows


def write(path: Path, lines: list[str], *, bom: bool = False, end: str = "\n") -> Path:
    """A text file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = ("\ufeff" if bom else "") + end.join(lines) + end
    path.write_bytes(text.encode("utf-8"))
    return path


def movielens_csv(folder: Path, rows: list[tuple[str, str, float, int]]) -> Path:
    """ml-latest's three tables."""
    items = sorted({r[1] for r in rows}, key=int)
    write(folder / "ratings.csv", ["userId,movieId,rating,timestamp", *(",".join(map(str, r)) for r in rows)])
    titles = [f'{i},"Film {i}, The ({1950 + int(i)})",{GENRES[int(i) % 4]}|{GENRES[0]}' for i in items]
    write(folder / "movies.csv", ["movieId,title,genres", *titles, "999,No Year,(no genres listed)"])
    write(folder / "links.csv", ["movieId,imdbId,tmdbId", *(f"{i},{int(i):07d},{int(i) * 10}" for i in items)])
    return folder


def movielens_dat(folder: Path, rows: list[tuple[str, str, float, int]], *, half: bool = False) -> Path:
    """ml-1m's three tables, titles in latin-1; with ``half``, ratings as ml-10m has them (5, 4.5)."""
    write(folder / "ratings.dat", [f"{u}::{i}::{r if half else round(r):g}::{t}" for u, i, r, t in rows])
    items = sorted({r[1] for r in rows}, key=int)
    titles = "".join(f"{i}::Caf\u00e9: {i} ({1950 + int(i)})::{GENRES[int(i) % 4]}|Drama\n" for i in items)
    (folder / "movies.dat").write_bytes(titles.encode("latin-1"))
    write(folder / "users.dat", [f"{u}::F::25::10::{u}0001" for u in sorted({r[0] for r in rows}, key=int)])
    return folder


def flickscore(folder: Path) -> Path:
    """Labels of 30 users on 12 movies, the last two not Hindi, the one before them without a genre."""
    draw = np.random.default_rng(0)
    movies = [
        {
            "movie_id": f"tt{n:07d}", "name": f"Film\t{n}", "genres": [] if n == 9 else [GENRES[n % 4], "Drama"],
            "language": ["Tamil"] if n > 9 else ["Hindi", "Urdu"], "description": f'A "plot"\nof {n}.',
            "cast": ["A B", f"C {n}"], "director": ["D"], "released": f"20{n:02d}-05-01" if n else "NA",
            "poster": f"posters/tt{n:07d}.jpg",
        }
        for n in range(12)
    ]  # fmt: skip
    write(folder / "movies.jsonl", [json.dumps(m) for m in movies])
    lines = [f"u{u:04d}\ttt{n:07d}\t{draw.integers(-1, 2)}" for u in range(30) for n in range(12)]
    write(folder / "ratings.tsv", ["user_id\tmovie_id\tlabel", *lines])
    (folder / "posters").mkdir()
    for n in range(5):
        (folder / "posters" / f"tt{n:07d}.jpg").write_bytes(b"a poster")
    (folder / "features").mkdir()
    ids = np.array([f"tt{n:07d}" for n in range(12)])
    x = draw.normal(size=(12, 6)).astype(np.float16)
    np.savez(folder / "features" / "text_encoder_6.npz", ids=ids, x=x)
    np.savez(folder / "features" / "image_encoder_6.npz", ids=ids[:5], x=x[:5])
    return folder


def mmrec(folder: Path, rows: list[tuple[str, str, float, int]]) -> Path:
    """One table with x_label, two feature files, and the pickle that is not to be read."""
    lines = [f"{int(u) - 1}\t{int(i) - 1}\t{r}\t{n % 10 // 8 + (n % 10 == 9)}" for n, (u, i, r, _) in enumerate(rows)]
    write(folder / "small.inter", ["userID\titemID\trating\tx_label", *lines])
    n_items = max(int(r[1]) for r in rows)
    draw = np.random.default_rng(0)
    np.save(folder / "text_feat.npy", draw.normal(size=(n_items, 5)).astype(np.float32))
    np.save(folder / "image_feat.npy", draw.normal(size=(n_items, 7)))
    write(folder / "missed_img_itemIDs.csv", ["itemID", "3", "4"])
    (folder / "user_graph_dict.npy").write_bytes(b"\x93NUMPY, but a pickle")
    return folder
