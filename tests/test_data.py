"""Features as atomic item features of RecBole's data sets: filters, pre-split files, cold items, batches, fields."""

import numpy as np
import pandas as pd
import pytest
import torch
from planted import Planted

from recbole_mm.data import create_dataset, imdb, split
from recbole_mm.errors import ConfigError, FeatureError
from recbole_mm.feature_formats import write_recbole_text
from recbole_mm.features import open_feature_file
from recbole_mm.quick_start import Silent, _build, _configuration, request, run


def configured(data, model="BPR", **over):
    return _configuration(request(model, data.name, config=data.config(**over)))


def dataset_of(data, **over):
    return create_dataset(configured(data, **over))


def build_of(model, data, config):
    asked = request(model, data.name, config={**config, "checkpoint_dir": "parts"})
    return _build(_configuration(asked), Silent())


def assert_joined(dataset, data, name):
    """Every item has its own token's vector, whatever its id."""
    file = open_feature_file(data.file(name))
    row = {token: r for r, token in enumerate(file.tokens)}
    weight, mask = dataset.get_preload_weight(name), dataset.modality(name).mask
    for item, token in enumerate(dataset.field2id_token[dataset.iid_field]):
        assert mask[item] == (token in row)
        np.testing.assert_array_equal(weight[item], file.vectors[row[token]] if token in row else 0)


def test_joined_by_token_whatever_the_filters(planted):
    files = planted.register(image="both", text="b")
    for over in ({}, {"item_inter_num_interval": "[6,inf)"}, {"user_inter_num_interval": "[7,inf)"}):
        dataset = dataset_of(planted, modalities=files, **over)
        for name in files:
            assert_joined(dataset, planted, name)
    assert 1 < dataset_of(planted, modalities=files, item_inter_num_interval="[6,inf)").item_num < planted.n_items


def test_memory_mapped_until_asked_and_not_in_batches(planted):
    dataset = dataset_of(planted, modalities=planted.register(image="both"))
    assert isinstance(dataset.modality("image").features.vectors, np.memmap)
    assert dataset._matrices == {}
    train, _, _ = split(dataset.config, dataset)
    batch = next(iter(train))
    assert {"user_id", "item_id"} <= set(batch.columns) <= {"user_id", "item_id", "rating", "neg_item_id", "neg_rating"}
    assert "image" not in dataset.get_item_feature().columns


def test_preload_weight_equals_plain_recboles(planted):
    """The same vectors, exported as text and read by RecBole's own preload_weight."""
    planted.register(image="both")
    file = open_feature_file(planted.file("image"))
    write_recbole_text(planted.folder / f"{planted.name}.itememb", file, item_field="iid", modality="item_emb")
    dataset = dataset_of(
        planted, modalities={"image": {"file": planted.file("image").name}}, additional_feat_suffix=["itememb"],
        alias_of_item_id=["iid"], preload_weight={"iid": "item_emb"},
        load_col={"inter": ["user_id", "item_id"], "itememb": ["iid", "item_emb"]},
    )  # fmt: skip
    theirs, ours = dataset.get_preload_weight("iid"), dataset.get_preload_weight("image")
    np.testing.assert_allclose(theirs, ours, atol=1e-6)


def test_pre_split_files_and_cold_items(tmp_path):
    data = Planted(tmp_path / "dataset").write_cold()
    files = data.register(image="both")
    config = configured(data, modalities=files, benchmark_filename=["train", "valid", "test"])
    dataset = create_dataset(config)
    assert_joined(dataset, data, "image")
    train, _, test = split(config, dataset)
    cold = set(test._dataset.inter_feat["item_id"].tolist()) - set(train._dataset.inter_feat["item_id"].tolist())
    assert len(cold) > 20
    assert dataset.modality("image").mask[list(cold)].mean() > 0.8


def test_items_without_interactions_are_known_to_the_item_file(planted):
    """A feature of an item that only the .item file names is no mistake; one that nothing names is."""
    planted.write_interactions([row for row in planted.rows if row[1] != "i7"])
    files = planted.register(image="both")
    dataset = dataset_of(planted, modalities=files)
    assert_joined(dataset, planted, "image")
    items = (planted.folder / "planted.item").read_text().splitlines()
    (planted.folder / "planted.item").write_text("\n".join(r for r in items if not r.startswith("i7\t")) + "\n")
    with pytest.raises(FeatureError, match=r"1 of 85 item tokens are not items.*'i7'.*allow_unknown"):
        dataset_of(planted, modalities=files)
    assert_joined(
        dataset_of(planted, modalities={"image": {**files["image"], "allow_unknown": True}}), planted, "image"
    )


def test_facts_are_encoded_from_recboles_fields(planted):
    modalities = {
        "group": {"field": "class", "encoding": "multi_hot"},
        "year": {"field": "year", "encoding": "bumps", "bump_width": 4, "bump_range": [1990, 2004]},
    }
    dataset = dataset_of(planted, modalities=modalities)
    groups, years = (dataset.get_preload_weight(name) for name in modalities)
    names = ["g0", "g1", "g2", "h0", "h1", "h2"]
    for item, token in enumerate(dataset.field2id_token["item_id"][1:], start=1):
        a, b = planted.attributes[int(token[1:])]
        assert groups[item].tolist() == [float(n in (f"g{a}", f"h{b}")) for n in names]
        year = 1990 + a * 5 + b
        np.testing.assert_allclose(years[item], [np.exp(-(((year - c) / 4) ** 2)) for c in (1990, 1994, 1998, 2002)])
    with pytest.raises(ConfigError, match="did you mean 'class'"):
        dataset_of(planted, modalities={"group": {"field": "clas", "encoding": "multi_hot"}})


def test_a_modality_is_a_float_seq_field_for_context_aware_models(planted):
    """DeepFM with a feature that tells the label learns it, and does not without."""
    rows = [(u, i, 5 if planted.attributes[int(i[1:])][0] == 0 else 1) for u, i, _ in planted.rows]
    planted.write_interactions(rows)
    common = {
        "threshold": {"rating": 4}, "train_neg_sample_args": None, "metrics": ["AUC"], "valid_metric": "AUC",
        "eval_args": {"split": {"RS": [0.6, 0.2, 0.2]}, "order": "RO", "group_by": None, "mode": "labeled"},
        "learning_rate": 0.01, "item_inter_num_interval": "[0,inf)", "epochs": 20, "stopping_step": 20,
    }  # fmt: skip
    files = planted.register(image="a")
    auc = {}
    for fields in ([], ["image"]):
        config = planted.config(**{**common, "modalities": files, "modality_fields": fields})
        parts = build_of("DeepFM", planted, config)
        assert ("image" in parts.dataset.get_item_feature().columns) == bool(fields)
        assert ("image" in next(iter(parts.train_data)).columns) == bool(fields)
        auc[bool(fields)] = run("DeepFM", planted.name, config=config, run_dir=f"fm{len(fields)}")["test"]["auc"]
    assert auc[True] > 0.9


def test_a_float_seq_field_holds_the_vectors(planted):
    files = planted.register(image="both")
    dataset = build_of("DeepFM", planted, planted.config(modalities=files, modality_fields=["image"])).dataset
    field = dataset.get_item_feature()["image"]
    aligned = dataset.modality("image")
    assert field.shape == (dataset.item_num, aligned.width, 2)
    vectors = torch.from_numpy(dataset.get_preload_weight("image"))
    torch.testing.assert_close(
        torch.nn.functional.normalize(field[..., 0], dim=1), torch.nn.functional.normalize(vectors.float(), dim=1)
    )
    assert (field[..., 1][~torch.from_numpy(aligned.mask)] == 0).all()
    assert (field[..., 1][torch.from_numpy(aligned.mask)] == torch.arange(1.0, aligned.width + 1)).all()


# -- the data set in the box -------------------------------------------------------------------------------------


def test_imdb_is_movielens_with_features_of_its_films(tmp_path):
    folder = tmp_path / "dataset" / "imdb"
    assert imdb.build(folder)
    assert not imdb.build(folder)
    interactions = pd.read_csv(folder / "imdb.inter", sep="\t")
    assert interactions.shape == (100_000, 4)
    config = _configuration(request("BPR", "imdb"))
    dataset = create_dataset(config)
    assert (dataset.user_num - 1, dataset.item_num - 1) == (943, 1682)
    covered = {name: int(aligned.mask.sum()) for name, aligned in dataset.modalities.items()}
    years = pd.to_numeric(pd.read_csv(folder / "imdb.item", sep="\t")["release_year:token"], errors="coerce")
    assert covered == {"text": 1671, "image": 1656, "credits": 1682, "genre": 1682, "year": years.notna().sum()}
    toy_story = dataset.token2id("item_id", "1")
    genres = sorted({g for gs in pd.read_csv(folder / "imdb.item", sep="\t")["class:token_seq"] for g in gs.split()})
    found = dataset.get_preload_weight("genre")[toy_story]
    assert [g for g, on in zip(genres, found, strict=True) if on] == ["Animation", "Children's", "Comedy"]


def test_a_build_that_was_stopped_is_finished(tmp_path):
    folder = tmp_path / "imdb"
    imdb.build(folder)
    whole = {p.name: p.read_bytes() for p in folder.iterdir()}
    for left in ("imdb.inter", "imdb.text.safetensors", "imdb.user"):
        (folder / left).unlink()
    imdb.build(folder)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == whole
