"""Speed and memory as ratios, each pair measured side by side in one run.

    python benchmarks/speed.py [--only help,epoch,features,command] [--items 100000] [--out speed.md]

help      `recbole-mm --help` against `import recbole.quick_start`
epoch     an epoch of MMFusion against one of RecBole's BPR, imdb, each at its default batch size
features  a feature file opened and joined to items, against RecBole's text path and against reading the bytes
command   the first command after installation against RecBole's LightGCN to its early stop, imdb
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np

from recbole_mm.config import Config
from recbole_mm.data import create_dataset
from recbole_mm.features import Features, align, open_feature_file, write_feature_file
from recbole_mm.files import write_text
from recbole_mm.run_directory import read_result

WIDTH = 2048


def seconds(action: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def python(*words: str, cwd: Path | None = None) -> None:
    """Run Python in a process of its own."""
    subprocess.run([sys.executable, *words], cwd=cwd, check=True, capture_output=True)


def row(what: str, ours: float, other: str, theirs: float, bar: str) -> str:
    """One line of the table."""
    ratio = f"{theirs / ours:.1f} x faster" if ours < theirs else f"{ours / theirs:.2f} x as long"
    return f"| {what} | {ours:.3f} s | {other} | {theirs:.3f} s | {ratio} | {bar} |"


def start_up(args: argparse.Namespace) -> list[str]:
    """Medians of five, alternating."""
    times: dict[str, list[float]] = {"ours": [], "recbole": []}
    for _ in range(5):
        times["ours"].append(seconds(lambda: python("-m", "recbole_mm", "--help")))
        times["recbole"].append(seconds(lambda: python("-c", "import recbole.quick_start")))
    ours, theirs = median(times["ours"]), median(times["recbole"])
    return [row("`recbole-mm --help`", ours, "`import recbole.quick_start`", theirs, "at most a fifth")]


def epoch(args: argparse.Namespace) -> list[str]:
    """Medians of ten epochs, alternating, after two that do not count."""
    from recbole_mm.data import prepare_files
    from recbole_mm.quick_start import Silent, _build, _configuration, request

    with tempfile.TemporaryDirectory() as folder:
        prepare_files("imdb", Path(folder))
        parts = {}
        for model in ("MMFusion", "BPR"):
            config = {"data_path": folder, "checkpoint_dir": folder}
            parts[model] = _build(_configuration(request(model, "imdb", config=config)), Silent())
        times: dict[str, list[float]] = {model: [] for model in parts}
        for number in range(12):
            for model, built in parts.items():
                took = seconds(lambda b=built, n=number: b.trainer._train_epoch(b.train_data, n))
                times[model] += [took] if number >= 2 else []
    return [
        row("an epoch of MMFusion", median(times["MMFusion"]), "an epoch of BPR", median(times["BPR"]), "at most 3 x")
    ]


def features(args: argparse.Namespace) -> list[str]:
    """The same vectors by both ways into a data set, each beside the same data set without them."""
    draw = np.random.default_rng(0)
    tokens = tuple(f"i{n}" for n in draw.permutation(args.items))
    vectors = draw.standard_normal((args.items, WIDTH), dtype=np.float32).astype(np.float16)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "big"
        data.mkdir()
        lines = "\n".join(f"u{n % 1000}\ti{n}" for n in range(args.items))
        (data / "big.inter").write_text("user_id:token\titem_id:token\n" + lines + "\n")
        write_feature_file(data / "big.image.safetensors", Features(vectors, tokens))
        with (data / "big.itememb").open("w") as file:
            file.write("iid:token\titem_emb:float_seq\n")
            for token, vector in zip(tokens, vectors, strict=True):
                file.write(token + "\t" + " ".join(map(str, vector)) + "\n")
        size = (data / "big.image.safetensors").stat().st_size

        def plain() -> object:
            return create_dataset(configured(folder, {}))

        def by_file() -> object:
            return create_dataset(configured(folder, ours)).get_preload_weight("image")

        def by_text() -> object:
            return create_dataset(configured(folder, text)).get_preload_weight("iid")

        ours = {"modalities": {"image": {"file": "big.image.safetensors"}}}
        text = {
            "additional_feat_suffix": ["itememb"], "alias_of_item_id": ["iid"], "preload_weight": {"iid": "item_emb"},
            "load_col": {"inter": ["user_id", "item_id"], "itememb": ["iid", "item_emb"]},
        }  # fmt: skip
        base = median(seconds(plain) for _ in range(3))
        took = median(seconds(by_file) for _ in range(3)) - base
        raw = median(seconds((data / "big.image.safetensors").read_bytes) for _ in range(3))
        item_tokens = ["[PAD]", *(f"i{n}" for n in range(args.items))]
        alone = median(
            seconds(lambda: align(open_feature_file(data / "big.image.safetensors"), item_tokens)) for _ in range(3)
        )
        theirs = seconds(by_text) - base
    what = f"{args.items:,} x {WIDTH} ({size / 1e6:.0f} MB)"
    return [
        row(f"{what} in a data set", took, "RecBole's text path", theirs, "at least 50 x faster"),
        row(f"{what} in a data set", took, "reading the bytes", raw, "near it"),
        row(f"{what} opened and aligned, not yet read", alone, "RecBole's text path", theirs, "at least 50 x faster"),
    ]


def configured(folder: str, over: dict[str, object]) -> Config:
    """A data set of interactions and nothing else, for BPR."""
    from recbole.model.general_recommender import BPR

    return Config(
        BPR, "big", (), {"data_path": folder, "load_col": {"inter": ["user_id", "item_id"]}, "modalities": {}, **over}
    )


def command(args: argparse.Namespace) -> list[str]:
    """Wall time of whole commands in an empty folder, and the peak memory of the first."""
    with tempfile.TemporaryDirectory() as folder:
        times = {}
        for model in ("MMFusion", "LightGCN"):
            words = ("-m", "recbole_mm", f"--model={model}", "--dataset=imdb", f"--run_dir={model}")
            times[model] = seconds(lambda w=words: python(*w, cwd=Path(folder)))
        peak = read_result(Path(folder) / "MMFusion")["peak_rss_mb"]
    lines = [row("first command, MMFusion", times["MMFusion"], "LightGCN", times["LightGCN"], "at most a quarter")]
    return [*lines, f"| its peak memory | {peak:.0f} MB | | | | at most 1,500 MB |"]


PARTS = {"help": start_up, "epoch": epoch, "features": features, "command": command}


def main() -> None:
    """Run the chosen parts and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    lines = ["| what | time | beside | time | ratio | bar |", "|---|---|---|---|---|---|"]
    print("\n".join(lines), flush=True)
    for name in args.only.split(","):
        for line in PARTS[name](args):
            lines.append(line)
            print(line, flush=True)
    if args.out:
        write_text(args.out, "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
