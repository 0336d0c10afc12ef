"""Run an experiment YAML and print its tables of validation figures; nothing here reads the test part's.

    python benchmarks/search.py properties/experiment/mmfusion_search.yaml --out_dir=search [--table NAME]

Finished runs in --out_dir are taken over, so that a stopped search goes on.
"""

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from recbole_mm.config import read_yaml
from recbole_mm.files import write_text
from recbole_mm.quick_start import run
from recbole_mm.run_directory import CONFIG, RESULT, digest, read_result

Settings = dict[str, Any]


def settings_of(table: Settings) -> Iterator[Settings]:
    """The parameters that each row changes; none for the model's own YAML."""
    if "grid" in table:
        for values in itertools.product(*table["grid"].values()):
            yield dict(zip(table["grid"], values, strict=True))
        return
    yield {}
    for key, values in table["each"].items():
        for value in values:
            yield {key: value}


def validation(experiment: Settings, over: Settings, seed: int, out_dir: Path) -> tuple[float, float]:
    """Best validation value of one run, and the epoch that it was reached in."""
    key = "-".join(f"{k}={v}" for k, v in over.items()) or "default"
    run_dir = out_dir / f"{digest(key)}-{seed}"
    if not (run_dir / RESULT).is_file():
        for leftover in run_dir.glob("*") if (run_dir / CONFIG).is_file() else ():
            leftover.unlink()
        config = {**experiment.get("start", {}), **over, "seed": seed}
        run(experiment["model"], experiment["dataset"], config=config, run_dir=run_dir)
    result = read_result(run_dir)
    return result["valid"][experiment["metric"]], result["best_epoch"]


def main() -> None:
    """Run the chosen tables and print them, best first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", type=Path)
    parser.add_argument("--out_dir", type=Path, required=True)
    parser.add_argument("--table", help="only the table of this name")
    args = parser.parse_args()
    experiment = read_yaml(args.experiment)
    for table in experiment["tables"]:
        if args.table not in (None, table["name"]):
            continue
        rows = []
        for over in settings_of(table):
            found = [validation(experiment, over, seed, args.out_dir) for seed in table["seeds"]]
            value, best_epoch = np.mean(found, axis=0)
            rows.append((value, best_epoch, over))
            print(f"{value:.4f} {over}", flush=True)
        lines = [f"{table['name']}, seeds {', '.join(map(str, table['seeds']))}", ""]
        lines += [f"| changed | valid {experiment['metric']} | best epoch |", "|---|---|---|"]
        for value, best_epoch, over in sorted(rows, key=lambda row: -row[0]):
            changed = ", ".join(f"`{k}: {v}`" for k, v in over.items()) or "nothing"
            lines.append(f"| {changed} | {value:.4f} | {best_epoch:.0f} |")
        text = "\n".join(lines) + "\n"
        write_text(args.out_dir / f"{table['name'].replace(', ', '-').replace(' ', '_')}.md", text)
        print("\n" + text, flush=True)


if __name__ == "__main__":
    main()
