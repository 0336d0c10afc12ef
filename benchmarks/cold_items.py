"""Movies held out whole: 5-fold over the movies of imdb, MMFusion beside ridge regression's figures.

    python benchmarks/cold_items.py [--sets "all five"] [--scales 1,4] [--out cold_items.md] [--parameter key=value ...]

The protocol is that of the reference table (docs/benchmarks.md): folds are numpy.random.default_rng(0)
.permutation(1682) % 5 over the item tokens sorted as text; fold f's movies are ranked among themselves by every user
who rated one of them. For each fold f, the number of epochs and the scale of ``cold_kernel`` are chosen on fold f + 1
by training on the other three; then the model is trained on all four and fold f is scored, once.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from recbole.data.interaction import Interaction

from recbole_mm.config import parse_value, read_yaml
from recbole_mm.data import imdb
from recbole_mm.files import write_text
from recbole_mm.quick_start import load, run
from recbole_mm.resources import shipped

SETS = {
    "plot (text)": ["text"],
    "poster (image)": ["image"],
    "credits": ["credits"],
    "genre": ["genre"],
    "year": ["year"],
    "plot + poster": ["text", "image"],
    "genre + year": ["genre", "year"],
    "plot + poster + genre + year": ["text", "image", "genre", "year"],
    "all five": ["text", "image", "credits", "genre", "year"],
}
RIDGE = {  # the reference's numpy ridge regression, NDCG@10
    "poster (image)": 0.132, "plot (text)": 0.172, "plot + poster": 0.196, "credits": 0.280, "genre + year": 0.307,
    "plot + poster + genre + year": 0.327, "all five": 0.369,
}  # fmt: skip


def ndcg_recall(scores: np.ndarray, positive: np.ndarray, k: int = 10) -> tuple[float, float]:
    """NDCG@k and Recall@k over the users with a positive item; scores and positive are [users, items]."""
    users = positive.any(1)
    scores, positive = scores[users], positive[users]
    top = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    hits = np.take_along_axis(positive, top, 1).astype(float)
    discount = 1 / np.log2(np.arange(2, k + 2))
    ideal = np.array([discount[: min(int(n), k)].sum() for n in positive.sum(1)])
    return float(((hits * discount).sum(1) / ideal).mean()), float((hits.sum(1) / positive.sum(1)).mean())


def write_parts(root: Path, interactions: pd.DataFrame, fold: pd.Series, test: int) -> tuple[str, str]:
    """Two data sets with train, valid and test parts by movie: one to choose on fold ``test`` + 1, one to test."""
    valid = (test + 1) % 5
    names = (f"choose{test}", f"test{test}")
    for name, train, held_out in zip(names, (~fold.isin([test, valid]), fold != test), (valid, test), strict=True):
        (root / name).mkdir()
        for part, rows in {"train": train, "valid": fold == valid, "test": fold == held_out}.items():
            interactions[rows].to_csv(root / name / f"{name}.{part}.inter", sep="\t", index=False)
        (root / name / f"{name}.item").write_bytes((root / "imdb" / "imdb.item").read_bytes())
    return names


def evaluate(run_dir: Path) -> tuple[float, float]:
    """Score the held-out movies with the trained model, among themselves."""
    parts = load(run_dir)
    held_out = parts.test_data._dataset.inter_matrix(form="csr").toarray() > 0
    columns = np.flatnonzero(held_out.any(0))
    users = torch.arange(parts.dataset.user_num)
    with torch.no_grad():
        scores = parts.model.full_sort_predict(Interaction({"user_id": users})).view(len(users), -1).numpy()
    return ndcg_recall(scores[:, columns], held_out[:, columns])


class Experiment:
    """MMFusion on one set of modalities, fold by fold."""

    def __init__(self, root: Path, label: str, over: dict[str, object]) -> None:
        self.root, self.label, self.over = root, label, over
        self.kernel = dict(read_yaml(shipped("properties/model/MMFusion.yaml"))["cold_kernel"])

    def score(self, name: str, scale: float, **over: object) -> tuple[float, float, int]:
        """Train; NDCG@10 and Recall@10 on the held-out movies, and the best epoch."""
        run_dir = self.root / "runs" / f"{self.label}-{name}-{scale}".replace(" ", "_")
        config = {
            "data_path": str(self.root), "benchmark_filename": ["train", "valid", "test"],
            "load_col": {"inter": ["user_id", "item_id", "rating"]}, "modalities": registered(SETS[self.label]),
            "cold_kernel": {name: weight * scale for name, weight in self.kernel.items()}, **self.over, **over,
        }  # fmt: skip
        result = run("MMFusion", name, config=config, run_dir=run_dir)
        return (*evaluate(run_dir), result["best_epoch"])

    def fold(self, names: tuple[str, str], scales: list[float]) -> tuple[float, float, float]:
        """NDCG@10 and Recall@10 on the test fold, and NDCG@10 on the validation fold."""
        tried = {scale: self.score(names[0], scale) for scale in scales}
        scale = max(tried, key=lambda s: tried[s][0])
        ndcg, recall, _ = self.score(names[1], scale, epochs=tried[scale][2], eval_step=0)
        return ndcg, recall, tried[scale][0]


def main() -> None:
    """Run all folds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--sets", help="only these rows, separated by commas")
    parser.add_argument("--scales", default="1,4", help="of cold_kernel, chosen among on the validation fold")
    parser.add_argument("--parameter", action="append", default=[], metavar="KEY=VALUE")
    args = parser.parse_args()
    over = {k: parse_value(v) for k, _, v in (p.partition("=") for p in args.parameter)}
    scales = [float(s) for s in args.scales.split(",")]
    lines = [
        "| features | NDCG@10 | sd | Recall@10 | validation NDCG@10 | ridge NDCG@10 |",
        "|---|---|---|---|---|---|",
    ]
    print("\n".join(lines), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        imdb.build(root / "imdb")
        interactions = pd.read_csv(root / "imdb" / "imdb.inter", sep="\t", dtype={0: str, 1: str})
        items = sorted(interactions["item_id:token"].unique())
        number = dict(zip(items, np.random.default_rng(0).permutation(len(items)) % 5, strict=True))
        fold = interactions["item_id:token"].map(number)
        names = [write_parts(root, interactions, fold, f) for f in range(5)]
        for label in args.sets.split(",") if args.sets else SETS:
            experiment = Experiment(root, label, over)
            found = [experiment.fold(pair, scales) for pair in names]
            mean, sd = np.mean(found, 0), np.std(found, 0)
            ridge = f"{RIDGE[label]:.3f}" if label in RIDGE else ""
            lines.append(f"| {label} | {mean[0]:.4f} | {sd[0]:.4f} | {mean[1]:.4f} | {mean[2]:.4f} | {ridge} |")
            print(lines[-1], flush=True)
    if args.out:
        write_text(args.out, "\n".join(lines) + "\n")


def registered(names: list[str]) -> dict[str, dict[str, object]]:
    """The modalities of imdb, for a data set that lies beside it."""
    entries = read_yaml(shipped("properties/dataset/imdb.yaml"))["modalities"]
    for entry in entries.values():
        if "file" in entry:
            entry["file"] = f"../imdb/{entry['file']}"
    return {name: entries[name] for name in names}


if __name__ == "__main__":
    main()
