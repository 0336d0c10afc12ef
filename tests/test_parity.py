"""RecBole's own models give RecBole's own figures through our entry, to the last printed digit."""

import json
import subprocess
import sys

import pytest

import recbole_mm

# Plain RecBole in a process of its own. Two of its calls need help on today's scipy and torch: the graph's
# dok_matrix._update, and reading back the checkpoint that it has just pickled itself.
PLAIN = """
import functools, json, sys, torch
from recbole_mm.compat import restore_dok_update
restore_dok_update()
torch.load = functools.partial(torch.load, weights_only=False)
from recbole.quick_start import run_recbole
sys.argv = sys.argv[:1]
out = {}
for model in ["EASE", "BPR", "ItemKNN", "LightGCN"]:
    result = run_recbole(model=model, dataset="ml-100k", config_dict=json.loads(CONFIG))
    out[model] = {part: {k: float(v) for k, v in result[part].items()} for part in ("best_valid_result", "test_result")}
open("plain.json", "w").write(json.dumps(out))
"""
CONFIG = {
    "epochs": 2, "topk": [10, 20], "valid_metric": "NDCG@10", "seed": 2021, "show_progress": False,
    "load_col": {"inter": ["user_id", "item_id"]}, "eval_batch_size": 400000,
}  # fmt: skip


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    code = f"CONFIG = {json.dumps(json.dumps(CONFIG))}\n{PLAIN}"
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=folder, check=True, capture_output=True)
    return json.loads((folder / "plain.json").read_text())


@pytest.mark.parametrize("model", ["EASE", "BPR", "ItemKNN", "LightGCN"])
def test_same_figures_as_plain_recbole(model, plain):
    for dataset in ("ml-100k", "imdb"):
        config = {**CONFIG, "modalities": ["genre"]} if dataset == "imdb" else CONFIG
        ours = recbole_mm.run(model, dataset, config=config, run_dir=f"run-{dataset}")
        assert ours["test"] == plain[model]["test_result"]
        assert ours["valid"] == plain[model]["best_valid_result"]
