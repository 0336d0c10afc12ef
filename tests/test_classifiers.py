"""Classifiers by protocol: what reaches a prediction, what does not, and what they learn."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from contract import classifies
from labels import parts_of

from recbole_mm.catalogue import our_models
from recbole_mm.cli import main
from recbole_mm.errors import DataError
from recbole_mm.known_labels import KnownLabels
from recbole_mm.model.label_attention import SequenceAttention, TokenAttention
from recbole_mm.model.published import OneKeyAttention
from recbole_mm.quick_start import _configuration, load, request, resume, run

CLASSIFIERS = [name for name in our_models() if classifies(name)]
NETWORKS = [
    ("GLScoreClassifier", {"architecture": "sequence"}),
    ("GLScoreClassifier", {"attention": False}),
    ("GLScoreClassifier", {"hide_movie": 0.5}),
    ("GLScoreClassifier", {"closed_form": False}),
    ("GLScoreClassifier", {"architecture": "published"}),
    ("SimpleClassifier", {}),
]


def test_classifiers():
    assert set(CLASSIFIERS) == {
        "BoostedTrees", "GLScoreClassifier", "ItemClassMean", "MajorityClass", "SimpleClassifier", "UserClassMean",
    }  # fmt: skip


# -- what reaches a prediction -----------------------------------------------------------------------------------


@pytest.mark.parametrize("model", CLASSIFIERS)
def test_test_labels_reach_no_prediction(model, labelled, tmp_path):
    """Every test label is changed; all of training, and each prediction, stays as it was."""

    def predictions(name):
        parts = parts_of(model, labelled)
        parts.trainer._train_epoch(parts.train_data, 0)
        parts.trainer.evaluate(parts.test_data, load_best_model=False)
        return parts, parts.trainer.evaluator.scores

    parts, before = predictions("before")
    inter = parts.test_data._dataset.inter_feat
    tested = {
        (f"{parts.dataset.id2token('user_id', int(u))}", f"{parts.dataset.id2token('item_id', int(i))}")
        for u, i in zip(inter["user_id"], inter["item_id"], strict=True)
    }
    # to another label with the same number of each, so that the stratified folds stay the same
    rows = [(u, i, y) for u, i, y in labelled.rows]
    at = [n for n, (u, i, _) in enumerate(rows) if (u, i) in tested]
    rotated = {-1: 0, 0: 1, 1: -1}
    for n in at:
        rows[n] = (*rows[n][:2], rotated[rows[n][2]])
    import recbole_mm.data.labelled as module

    original, classes = module.divide, np.array([y + 1 for *_, y in labelled.rows])
    module.divide = lambda setting, users, items, _: original(setting, users, items, classes)
    try:
        labelled.write_labels(rows)
        _, after = predictions("after")
    finally:
        module.divide = original
    # not to the last bit: with several threads two equal runs differ by 1e-7; a label would be seen by far more
    np.testing.assert_allclose(before, after, rtol=0, atol=1e-5)


def test_published_lets_test_labels_in(labelled):
    parts = parts_of("GLScoreClassifier", labelled, architecture="published", protocol="published")
    known, inter = parts.train_data._dataset.known, parts.test_data._dataset.inter_feat
    assert not known.leave_out
    assert (known.own(inter["user_id"].numpy(), inter["item_id"].numpy()) >= 0).all()


def test_honest_parts_do_not_overlap(labelled):
    parts = parts_of("MajorityClass", labelled)
    pairs = [
        {*zip(p._dataset.inter_feat["user_id"].tolist(), p._dataset.inter_feat["item_id"].tolist(), strict=True)}
        for p in (parts.train_data, parts.valid_data, parts.test_data)
    ]
    assert not (pairs[0] & pairs[1] or pairs[0] & pairs[2] or pairs[1] & pairs[2])
    assert len(set().union(*pairs)) == len(labelled.rows)
    known = parts.test_data._dataset.known
    assert {*zip(known.user.tolist(), known.item.tolist(), strict=True)} == pairs[0] | pairs[1]


def test_new_users_give_k_labels_first(labelled):
    parts = parts_of("UserClassMean", labelled, protocol="new_user", known_labels=4)
    tested = set(parts.test_data._dataset.inter_feat["user_id"].tolist())
    trained = set(parts.train_data._dataset.inter_feat["user_id"].tolist())
    assert not tested & trained
    known = parts.test_data._dataset.known
    assert {int((known.user == user).sum()) for user in tested} == {4}


def test_new_movies_have_no_label(labelled):
    parts = parts_of("ItemClassMean", labelled, protocol="new_movie")
    tested = set(parts.test_data._dataset.inter_feat["item_id"].tolist())
    assert not tested & set(parts.test_data._dataset.known.item.tolist())


@pytest.mark.parametrize(
    ("architecture", "same"), [("sequence", True), ("published", True), ("published_batch_attention", False)]
)
def test_examples_of_a_batch_do_not_see_each_other(labelled, architecture, same):
    parts = parts_of("GLScoreClassifier", labelled, architecture=architecture)
    parts.model.eval()
    users, items = np.array([1, 2, 3, 4]), np.array([5, 6, 7, 8])
    with torch.no_grad():
        whole = parts.model.logits(users, items)
        swapped = parts.model.logits(users[[1, 0, 2, 3]], items[[1, 0, 2, 3]])[[1, 0, 2, 3]]
        fewer = parts.model.logits(users[:2], items[:2])
    torch.testing.assert_close(whole, swapped, rtol=1e-4, atol=1e-5)  # attention over a batch is blind to its order
    assert torch.allclose(whole[:2], fewer, rtol=1e-4, atol=1e-5) == same


def test_attention_is_not_constant_over_a_real_sequence(labelled):
    parts = parts_of("GLScoreClassifier", labelled)
    seen = {}
    parts.model.user_side.register_forward_hook(lambda _, inputs, out: seen.update(pair=inputs[3], weight=out[1]))
    parts.model.eval()
    with torch.no_grad():
        parts.model.logits(np.array([1, 2]), np.array([3, 4]))
    first = seen["weight"][seen["pair"] == 0]
    assert len(first) > 5
    assert (first.std(0) > 1e-4).all()


def test_hidden_labels_are_those_of_a_movie_without_any(labelled):
    """For a movie without labels, hiding them changes nothing; for others, what they say of the movie is gone."""
    model = parts_of("GLScoreClassifier", labelled, protocol="new_movie").model.eval()
    known = model.known
    keep = known.item != np.bincount(known.item).argmax()
    fewer = KnownLabels(known.user[keep], known.item[keep], known.cls[keep] - 1, known.n_users, known.n_items)
    bare = int(np.bincount(known.item).argmax())
    users, items = np.array([1, 2, 3]), np.array([bare] * 3)
    before = model.features.of(users, items).numbers
    hidden = model.features.without_movie(before)
    assert not torch.allclose(before, hidden)
    model.observe(fewer)
    unlabelled = model.features.of(users, items)
    torch.testing.assert_close(model.features.without_movie(unlabelled.numbers), unlabelled.numbers)
    everywhere = torch.ones(3, dtype=torch.bool)
    with torch.no_grad():
        torch.testing.assert_close(model.member_logits(users, items, everywhere), model.member_logits(users, items))
        model.observe(known)
        changed = model.member_logits(users, items) - model.member_logits(users, items, everywhere)
    assert changed.abs().max() > 1e-3


def test_attention_to_one_key_equals_torch_s():
    torch.manual_seed(0)
    ours, theirs = OneKeyAttention(12, 3, 0.5).eval(), torch.nn.MultiheadAttention(12, 3, batch_first=True).eval()
    torch.nn.init.normal_(theirs.in_proj_bias)
    with torch.no_grad():
        ours.value.weight.copy_(theirs.in_proj_weight[24:])
        ours.value.bias.copy_(theirs.in_proj_bias[24:])
        ours.out.load_state_dict(theirs.out_proj.state_dict())
        query, context = torch.randn(5, 12), torch.randn(5, 12)
        expected = theirs(query[:, None], context[:, None], context[:, None])[0][:, 0]
        torch.testing.assert_close(ours(query, context), expected)
        ours.train()
        heads = torch.linalg.lstsq(ours.out.weight, (ours(query, context) - ours.out.bias).T)[0].T / ours.value(context)
    whole = heads.view(5, 3, 4)  # a head is dropped whole, or doubled
    torch.testing.assert_close(whole, whole[..., :1].expand_as(whole).round(), rtol=0, atol=1e-3)
    assert set(whole.round().abs().flatten().tolist()) == {0.0, 2.0}


def test_sequence_attention_equals_torch_s():
    """Against torch's scaled dot product over one padded sequence, the learnt idle entry among the keys."""
    torch.manual_seed(0)
    layer = SequenceAttention(8, 2, 0.0)
    query, keys, values = torch.randn(3, 8), torch.randn(5, 8), torch.randn(5, 8)
    pair, entry = torch.tensor([0, 0, 0, 2]), torch.tensor([1, 4, 2, 3])
    weight = torch.tensor([1.0, 0.5, 2.0, 1.0])
    got, _ = layer(query, keys, values, pair, entry, weight)
    with torch.no_grad():
        for row in range(3):
            mine = pair == row
            k = layer.key(torch.cat([keys[entry[mine]], layer.nothing])).view(-1, 2, 4).transpose(0, 1)
            v = layer.value(torch.cat([values[entry[mine]], layer.nothing])).view(-1, 2, 4)
            v = (v * torch.cat([weight[mine], torch.ones(1)])[:, None, None]).transpose(0, 1)
            q = layer.query(query[row]).view(2, 1, 4)
            pooled = torch.nn.functional.scaled_dot_product_attention(q, k, v).flatten()
            torch.testing.assert_close(got[row], layer.out(pooled), rtol=1e-4, atol=1e-5)


def test_a_movie_without_modality_keeps_its_query():
    layer = TokenAttention(8, 2, 0.0).eval()
    query = torch.randn(2, 1, 8)
    found = layer(query, torch.full((2, 3, 8), 7.0), torch.zeros(2, 3, dtype=torch.bool))
    torch.testing.assert_close(found, layer.norm(query))


def test_learning_rate_falls_by_steps_and_goes_on_from_a_checkpoint(labelled):
    over = {"lr_step": 2, "lr_factor": 0.5, "learning_rate": 0.008, "epochs": 5}

    def rate(parts):
        return parts.trainer.optimizer.param_groups[0]["lr"]

    parts = parts_of("SimpleClassifier", labelled, **over)
    rates = []
    for epoch in range(5):
        parts.trainer._train_epoch(parts.train_data, epoch)
        rates.append(rate(parts))
    assert rates == [0.008, 0.008, 0.004, 0.004, 0.002]
    state = parts.trainer.optimizer.state_dict()  # what a checkpoint holds
    again = parts_of("SimpleClassifier", labelled, **over)
    again.trainer.optimizer.load_state_dict(state)
    again.trainer._train_epoch(again.train_data, 5)
    assert rate(again) == 0.002


# -- what is learnt ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("model", "over"), NETWORKS)
def test_finds_the_planted_answer_and_nothing_in_shuffled_labels(labelled, model, over):
    config = labelled.config(fold=1, epochs=25, stopping_step=25, learning_rate=0.005, valid_metric="accuracy", **over)
    found = run(model, labelled.name, config=config, run_dir="true")["test"]
    assert found["accuracy"] > 0.65
    labels = np.random.default_rng(0).permutation([y for *_, y in labelled.rows])
    labelled.write_labels([(u, i, int(y)) for (u, i, _), y in zip(labelled.rows, labels, strict=True)])
    shuffled = run(model, labelled.name, config=config, run_dir="shuffled")["test"]
    share = max(np.bincount(labels + 1)) / len(labels)
    n_test = len(labels) / 3
    assert shuffled["accuracy"] < share + 3 * np.sqrt(share * (1 - share) / n_test)


@pytest.mark.parametrize(("model", "over"), NETWORKS)
@pytest.mark.parametrize("user_set", ["L", "L+D", "L+N", "L+D+N"])
def test_every_user_set_with_and_without_score(labelled, model, over, user_set):
    for weighting in (True, False):
        parts = parts_of(model, labelled, user_set=user_set, gl_weighting=weighting, **over)
        assert np.isfinite(parts.trainer._train_epoch(parts.train_data, 0))


def test_ranks_by_expected_preference_beside_recbole_s_models(labelled):
    config = labelled.config(eval_args={"mode": "full"}, val_interval={"label": "[1,inf)"}, epochs=20, stopping_step=20)
    del config["folds"]
    ours = run("GLScoreClassifier", labelled.name, config=config, run_dir="ours")
    pop = run("Pop", labelled.name, config=config, run_dir="pop")
    assert ours["split"] == pop["split"]
    assert ours["test"]["ndcg@10"] > 1.5 * pop["test"]["ndcg@10"]
    assert {"ndcg@10", "recall@10", "hit@10"} <= ours["test"].keys()


# -- runs over folds ---------------------------------------------------------------------------------------------


def test_run_over_folds(labelled, capsys):
    words = [f"--{k}={json.dumps(v)}" for k, v in labelled.config().items() if k not in {"data_path", "modalities"}]
    files = labelled.folder / f"{labelled.name}.modalities.yaml"
    files.write_text(json.dumps({"modalities": labelled.config()["modalities"]}))
    words += ["--model=UserClassMean", f"--dataset={labelled.name}", f"--data_path={labelled.root}", "--run_dir=run"]
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 0
    out = capsys.readouterr().out
    assert "protocol honest" in out
    assert "macro_f1" in out
    result = json.loads(Path("run/result.json").read_text())
    folds = [fold["test"]["accuracy"] for fold in result["folds"]]
    assert len(folds) == 3
    assert result["test"]["accuracy"] == pytest.approx(np.mean(folds))
    low, high = result["intervals"]["accuracy"]
    assert low < result["test"]["accuracy"] < high
    assert np.sum(result["confusion_matrix"]) == len(labelled.rows)
    assert Path("run/confusion.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_stopped_run_over_folds_goes_on(labelled, tmp_path):
    config = labelled.config()
    whole = run("MajorityClass", labelled.name, config=config, run_dir="whole")
    again = run("MajorityClass", labelled.name, config=config, run_dir="again")
    (tmp_path / "again" / "result.json").unlink()
    (tmp_path / "again" / "fold2" / "result.json").unlink()
    resumed = resume("again")
    assert resumed["test"] == whole["test"] == again["test"]


def test_every_figure_of_a_leaky_protocol_is_marked(labelled, capsys):
    from recbole_mm.cli.console import print_result

    config = labelled.config(protocol="published", architecture="published", epochs=1)
    result = run("GLScoreClassifier", labelled.name, config=config, run_dir="leaky")
    print_result(result)
    rows = [line for line in capsys.readouterr().out.splitlines() if "0." in line and "│" in line]
    assert result["leaky"]
    assert len(rows) >= 20
    assert all("leaky" in row for row in rows)


# -- bad input ---------------------------------------------------------------------------------------------------


def test_labels_outside_the_scale_are_refused(labelled):
    labelled.write_labels([*labelled.rows[:-1], ("u1", "i1", 5)])
    with pytest.raises(DataError, match="label 5 in row"):
        parts_of("MajorityClass", labelled)


def test_a_fold_without_a_class_is_refused(labelled):
    labelled.write_labels([(u, i, max(0, y)) for u, i, y in labelled.rows])
    with pytest.raises(DataError, match="class 'dislike' has 0 labels, 3 folds want one each"):
        parts_of("MajorityClass", labelled)


@pytest.mark.parametrize(("model", "over"), NETWORKS)
def test_a_movie_without_genre_and_a_user_with_one_label_are_handled(labelled, model, over):
    item = labelled.folder / f"{labelled.name}.item"
    lines = [f"i5\t\t{line.split()[-1]}" if line.startswith("i5\t") else line for line in item.read_text().splitlines()]
    item.write_text("\n".join(lines) + "\n")
    labelled.write_labels([*labelled.rows, ("lonely", "i5", 1)])
    parts = parts_of(model, labelled, **over)
    user = parts.dataset.token2id("user_id", "lonely")
    known = KnownLabels([user], [1], [1], parts.dataset.user_num, parts.dataset.item_num)
    for labels in (parts.train_data._dataset.known, known):
        parts.model.observe(labels)
        with torch.no_grad():
            p = parts.model.eval().logits(
                np.array([user, user]), np.array([parts.dataset.token2id("item_id", "i5"), 1])
            )
        assert torch.isfinite(p).all()


def test_ratings_become_labels_by_thresholds(planted):
    from recbole_mm.data import create_dataset

    rule = {"field": "rating", "dislike_at_most": 2, "like_at_least": 4}
    config = planted.config(label_from=rule, genre_field="class", fold=1)
    asked = request("MajorityClass", planted.name, config={**config, "checkpoint_dir": "parts"})
    inter = create_dataset(_configuration(asked)).inter_feat
    assert inter.groupby("rating")["label"].unique().map(list).to_dict() == {1: [-1], 2: [-1], 3: [0], 4: [1], 5: [1]}


def test_checkpoint_round_trip_of_a_fold(labelled):
    result = run("GLScoreClassifier", labelled.name, config=labelled.config(fold=2), run_dir="run")
    parts = load("run")
    assert dict(parts.trainer.evaluate(parts.test_data, load_best_model=False)) == result["test"]
