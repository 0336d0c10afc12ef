"""Time and peak memory of an import of many ratings, as a ratio to the engine's own reading and writing of the file.

    python benchmarks/importing.py [--rows 25000000] [--repeats 1] [--folder DIR] [--out importing.md]

Generates a ratings.csv of MovieLens's form (distinct pairs in the order of users, a thousandth of the rows repeated,
a thousandth without a movie), then runs by turns, each in a process of its own:

copy    polars streams the file and writes it back (``scan_csv``, ``sink_csv``): reading and writing, nothing else
import  ``recbole-mm import csv``: ids, numbers and duplicates checked, ``.inter`` written, everything reported
"""

import argparse
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


def main() -> None:
    """Generate, measure by turns, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=25_000_000)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder by default")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        source, target = Path(folder) / "ratings.csv", Path(folder) / "dataset"
        generate(source, args.rows)
        words = [
            "import", "csv", "--source", str(source), "--name", "big", "--data_path", str(target),
            "--user", "userId", "--item", "movieId", "--rating", "rating", "--timestamp", "timestamp",
        ]  # fmt: skip
        copies, imports = [], []
        for _ in range(args.repeats):
            copies.append(measured("-c", COPY, str(source), str(Path(folder) / "copy.csv")))
            imports.append(measured("-c", MEASURED, "recbole-mm", *words))
            report = (target / "big" / "import_report.json").read_text()
            shutil.rmtree(target)
        size = source.stat().st_size / 1e6
    copy = [median(column) for column in zip(*copies, strict=True)]
    ours = [median(column) for column in zip(*imports, strict=True)]
    text = "\n".join(
        [
            f"{args.rows:,} rows, {size:.0f} MB, median of {args.repeats}",
            "",
            "| | wall s | processor s | peak MB |",
            "|---|---|---|---|",
            f"| polars reads and writes the file | {copy[0]:.1f} | {copy[1]:.1f} | |",
            f"| `recbole-mm import csv` | {ours[0]:.1f} | {ours[1]:.1f} | {ours[2]:.0f} |",
            f"| ratio | {ours[0] / copy[0]:.2f} | {ours[1] / copy[1]:.2f} | |",
        ]
    )
    print(text)
    print(report)
    if args.out:
        write_text(args.out, text + "\n")


if __name__ == "__main__":
    main()
