"""Time and peak memory of imports, beside the plain engine's on the same files.

    python benchmarks/importing.py [--only ratings,json,imdb] [--repeats 1] [--folder DIR] [--out importing.md]

ratings  --rows of MovieLens's form, in the order of users, a thousandth of them repeated, a thousandth without a movie:
         ``recbole-mm import csv``, where ids, numbers and duplicates are checked and everything is reported, against
         polars streaming the file and writing it back, each in a process of its own
json     --movies JSON lines of OMDb's form: our reader against Python's ``json`` a line at a time, processor time
imdb     --titles lines of IMDb's title.basics.tsv: ``recbole-mm import metadata`` for MovieLens-100K
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import polars as pl

from recbole_mm.files import write_text
from recbole_mm.importers.raw import read_json_lines

COPY = "import sys, polars as pl; pl.scan_csv(sys.argv[1]).sink_csv(sys.argv[2], engine='streaming')"
MEASURED = (
    "import resource, runpy, sys; sys.argv = sys.argv[1:]\n"
    "try:\n runpy.run_module('recbole_mm', run_name='__main__')\n"
    "finally:\n print('PEAK_KB', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
)


def generate(path: Path, rows: int) -> None:
    """Write the ratings; 150 a user, as in MovieLens 25M."""
    draw = np.random.default_rng(0)
    n_users = rows // 150 + 1
    user = np.repeat(np.arange(1, n_users + 1, dtype=np.int32), 150)[:rows]
    # a stride prime to the number of items gives each user distinct items
    item = (draw.integers(0, 62_423, n_users)[user - 1] + np.arange(rows) % 150 * 419) % 62_423 + 1
    rating = draw.integers(1, 11, rows).astype(np.float32) / 2
    frame = pl.DataFrame(
        {
            "userId": user, "movieId": item.astype(np.int32), "rating": rating,
            "timestamp": draw.integers(789_652_009, 1_574_327_703, rows),
        }
    )  # fmt: skip
    frame.write_csv(path)
    again = frame.sample(rows // 1000, seed=0).write_csv(include_header=False)
    with path.open("a") as file:
        file.write(again)
        file.writelines(f"{n},,3.0,1000000000\n" for n in range(rows // 1000))


def measured(*words: str) -> tuple[float, float, float]:
    """Wall seconds, processor seconds and peak memory in MB of a process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    done = subprocess.run([sys.executable, *words], check=True, capture_output=True, text=True)
    took = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    peak = next((int(x.split()[1]) / 1024 for x in done.stdout.splitlines() if x.startswith("PEAK_KB")), 0.0)
    return took, cpu, peak


def ratings(args: argparse.Namespace, folder: Path) -> list[str]:
    """Reading and writing alone, and the import, by turns."""
    source, target = folder / "ratings.csv", folder / "dataset"
    generate(source, args.rows)
    words = [
        "import", "csv", "--source", str(source), "--name", "big", "--data_path", str(target),
        "--user", "userId", "--item", "movieId", "--rating", "rating", "--timestamp", "timestamp",
    ]  # fmt: skip
    copies, imports = [], []
    for _ in range(args.repeats):
        copies.append(measured("-c", COPY, str(source), str(folder / "copy.csv")))
        imports.append(measured("-c", MEASURED, "recbole-mm", *words))
        report = (target / "big" / "import_report.json").read_text()
        shutil.rmtree(target)
    copy = [median(column) for column in zip(*copies, strict=True)]
    ours = [median(column) for column in zip(*imports, strict=True)]
    return [
        f"{args.rows:,} rows, {source.stat().st_size / 1e6:.0f} MB, median of {args.repeats}",
        "",
        "| | wall s | processor s | peak MB |",
        "|---|---|---|---|",
        f"| polars reads and writes the file | {copy[0]:.1f} | {copy[1]:.1f} | |",
        f"| `recbole-mm import csv` | {ours[0]:.1f} | {ours[1]:.1f} | {ours[2]:.0f} |",
        f"| ratio | {ours[0] / copy[0]:.2f} | {ours[1] / copy[1]:.2f} | |",
        "",
        report,
    ]


def json_lines(args: argparse.Namespace, folder: Path) -> list[str]:
    """Movies of OMDb's form, read by us and by Python's ``json`` a line at a time, by turns; processor time."""
    source = folder / "movies.jsonl"
    plot = (
        "A cowboy doll is profoundly threatened and jealous when a new spaceman figure supplants him as top toy. " * 3
    )
    with source.open("w") as file:
        for n in range(args.movies):
            movie = {"imdbID": f"tt{n:07d}", "Title": f"Film {n}", "Year": str(1900 + n % 120), "Genre": "Drama, War"}
            file.write(
                json.dumps({**movie, "Director": "A B", "Actors": "C D, E F", "Plot": plot, "Runtime": "90"}) + "\n"
            )
    types = dict.fromkeys(("imdbID", "Title", "Year", "Genre", "Director", "Actors", "Plot"), pl.String())
    times: dict[str, list[float]] = {"ours": [], "python": []}
    for _ in range(args.repeats):
        start = time.process_time()
        read_json_lines(source, types, what="movies")
        times["ours"].append(time.process_time() - start)
        start = time.process_time()
        with source.open("rb") as file:
            objects = [json.loads(line) for line in file]
        pl.DataFrame({key: [o.get(key) for o in objects] for key in types}, schema=types)
        times["python"].append(time.process_time() - start)
    ours, python = median(times["ours"]), median(times["python"])
    size = source.stat().st_size / 1e6
    return [
        f"{args.movies:,} JSON lines, {size:.0f} MB: {ours:.2f} s, json.loads {python:.2f} s, {python / ours:.1f} x"
    ]


def imdb_dump(args: argparse.Namespace, folder: Path) -> list[str]:
    """Metadata for MovieLens-100K's 1,682 films from a file as long as IMDb's title.basics.tsv."""
    item = pl.int_range(1, args.titles + 1, eager=True).cast(pl.String)
    title = "Episode " + item + " of a series"
    columns = {
        "tconst": "tt" + item.str.zfill(7), "titleType": "tvEpisode", "primaryTitle": title, "originalTitle": title,
        "isAdult": "0", "startYear": "1999", "endYear": "\\N", "runtimeMinutes": "22", "genres": "Comedy,Drama",
    }  # fmt: skip
    source = folder / "title.basics.tsv"
    pl.DataFrame(columns).write_csv(source, separator="\t", quote_style="never")
    data = ["--name", "ml100k", "--data_path", str(folder / "dataset")]
    measured("-m", "recbole_mm", "import", "movielens", "--source", "recbole", *data)
    numbers = pl.read_csv(folder / "dataset/ml100k/ml100k.item", separator="\t", infer_schema=False)
    numbers = numbers.with_columns((pl.lit("tt") + pl.col("item_id:token").str.zfill(7)).alias("imdb_id:token"))
    numbers.write_csv(folder / "dataset/ml100k/ml100k.item", separator="\t")
    runs = [
        measured("-c", MEASURED, "recbole-mm", "import", "metadata", "--source", str(source), *data, "--replace")
        for _ in range(args.repeats)
    ]
    wall, cpu, peak = (median(column) for column in zip(*runs, strict=True))
    size = source.stat().st_size / 1e6
    return [f"{args.titles:,} titles, {size:.0f} MB: wall {wall:.1f} s, processor {cpu:.1f} s, peak {peak:.0f} MB"]


PARTS = {"ratings": ratings, "json": json_lines, "imdb": imdb_dump}


def main() -> None:
    """Run the chosen parts and print what they find."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--rows", type=int, default=25_000_000)
    parser.add_argument("--movies", type=int, default=200_000)
    parser.add_argument("--titles", type=int, default=11_500_000)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder by default")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    lines = []
    for name in args.only.split(","):
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            lines += PARTS[name](args, Path(folder))
    text = "\n".join(lines)
    print(text)
    if args.out:
        write_text(args.out, text + "\n")


if __name__ == "__main__":
    main()
