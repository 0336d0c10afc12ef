"""MMFusion finds signals that were planted where only it can find them, in every combination of its options."""

import itertools

import pytest
from planted import Planted

from recbole_mm.quick_start import run

OPTIONS = {
    "fusion": ["concat", "mean", "gated", "attention"],
    "engine": ["collaborative", "content", "hybrid"],
    "matching": ["dot", "cosine", "mlp"],
    "loss": ["bpr", "triplet", "cross_entropy", "bce"],
}
COLD = {"benchmark_filename": ["train", "valid", "test"], "epochs": 12, "stopping_step": 12, "learning_rate": 0.01}


def cold_data(tmp_path):
    return Planted(tmp_path / "dataset", n_users=90, n_items=120, per_user=9).write_cold()


def cold_recall(data, modalities, **over):
    config = data.config(modalities=modalities, **{**COLD, **over})
    name = "-".join(map(str, [*modalities, *over.values()])).replace("/", "_")
    return run("MMFusion", data.name, config=config, run_dir=f"cold-{name}")["test"]["recall@10"]


@pytest.mark.parametrize("engine", OPTIONS["engine"])
@pytest.mark.parametrize("item_item_weight", [0.0, 20.0])
def test_signal_in_images_only_is_found_by_image(tmp_path, engine, item_item_weight):
    data = cold_data(tmp_path)
    files = data.register(image="both", text="nothing")
    over = {"engine": engine, "item_item_weight": item_item_weight}
    by_image = cold_recall(data, {"image": files["image"]}, **over)
    by_text = cold_recall(data, {"text": files["text"]}, **over)
    assert by_image > 2 * by_text
    assert by_image > 0.4


@pytest.mark.parametrize("fusion", OPTIONS["fusion"])
def test_fusion_beats_either_modality_when_the_signal_is_split(tmp_path, fusion):
    data = cold_data(tmp_path)
    files = data.register(image="a", text="b")
    alone = [cold_recall(data, {name: files[name]}, fusion=fusion) for name in files]
    both = cold_recall(data, files, fusion=fusion)
    assert both > 1.3 * max(alone)


@pytest.mark.parametrize("combination", list(itertools.product(*OPTIONS.values())), ids="-".join)
def test_every_combination_of_options_learns(planted, combination):
    from contract import build

    sizes = {"learning_rate": 0.01, "sampled_items": 20, "embedding_size": 32}
    over = {**dict(zip(OPTIONS, combination, strict=True)), **sizes}
    parts = build("MMFusion", planted, over)
    losses = [parts.trainer._train_epoch(parts.train_data, epoch) for epoch in range(6)]
    assert min(losses[3:]) < losses[0]  # a single epoch's is noisy: histories are hidden at random
    assert parts.trainer._valid_epoch(parts.valid_data)[1]["recall@10"] > 10 / planted.n_items
