"""The suite that every model of the package passes, by being discovered in ``properties/model``."""

import numpy as np
import pytest
import torch
from recbole.data.interaction import Interaction

from recbole_mm.catalogue import find_model
from recbole_mm.config import ModelConfig, read_yaml
from recbole_mm.errors import CheckpointError
from recbole_mm.quick_start import Silent, _build, _configuration, load, request, run
from recbole_mm.resources import shipped
from recbole_mm.trainer import load_into


def build(model: str, data, over=None):
    """The parts of a run, not trained."""
    config = settings(model, data, modalities=data.register(image="both", text="b"), **(over or {}))
    asked = request(model, data.name, config={**config, "checkpoint_dir": "parts"})
    return _build(_configuration(asked), Silent())


def classifies(model: str) -> bool:
    """Whether a model predicts classes of labels; the others rank."""
    return getattr(find_model(model).load(), "classifies", False)


def settings(model: str, data, **over):
    """Parameters of a short run; of a classifier, one fold."""
    return data.config(**({"fold": 1} if classifies(model) else {}), **over)


def config_class(model_class: type) -> type[ModelConfig]:
    """The typed config that the module of the model, or of its base, declares."""
    modules = [(__import__(c.__module__, fromlist=["*"]), f"{c.__name__}Config") for c in model_class.__mro__]
    return next(getattr(module, name) for module, name in modules if hasattr(module, name))


class ModelContract:
    """What holds for every model; subclasses say which by the ``model`` fixture."""

    def test_yaml_keys_are_the_config_fields(self, model):
        keys = set(read_yaml(shipped(f"properties/model/{model}.yaml")))
        fields = set(config_class(find_model(model).load()).model_fields)
        training = {"train_batch_size", "eval_batch_size", "learning_rate", "weight_decay", "epochs", "stopping_step"}
        assert fields <= keys
        assert keys - fields <= training

    def test_predict_equals_full_sort_predict(self, model, planted):
        parts = build(model, planted)
        parts.model.eval()
        users = torch.tensor([1, 5, 5, 9])
        with torch.no_grad():
            full = parts.model.full_sort_predict(Interaction({"user_id": users})).view(len(users), -1)
            for item in (1, 2, parts.dataset.item_num - 1):
                pairs = Interaction({"user_id": users, "item_id": torch.full_like(users, item)})
                torch.testing.assert_close(parts.model.predict(pairs), full[:, item], rtol=1e-4, atol=1e-5)
        assert full.shape == (4, parts.dataset.item_num)
        torch.testing.assert_close(full[1], full[2])

    def test_checkpoint_round_trip(self, model, planted):
        config = settings(model, planted, modalities=planted.register(image="both", text="b"), epochs=2)
        result = run(model, planted.name, config=config, run_dir="run")
        parts = load("run")
        assert dict(parts.trainer.evaluate(parts.test_data, load_best_model=False)) == result["test"]

    def test_checkpoint_of_another_shape_is_refused(self, model, planted):
        parts = build(model, planted)
        state = {k: v[..., :-1] if v.ndim else v for k, v in parts.model.state_dict().items()}
        with pytest.raises(CheckpointError, match="another shape"):
            load_into(parts.model, {"state_dict": state, "other_parameter": {}}, "somewhere")

    def test_masked_modality_has_no_effect(self, model, planted, monkeypatch):
        def scores(garbage):
            parts = build(model, planted)
            original = type(parts.dataset).get_preload_weight

            def poisoned(self, name):
                vectors = original(self, name).copy()
                vectors[~self.modality(name).mask] = garbage
                return vectors

            with monkeypatch.context() as patch:
                patch.setattr(type(parts.dataset), "get_preload_weight", poisoned)
                torch.manual_seed(0)
                model_ = parts.config.model_class(parts.config, parts.train_data._dataset)
            model_.eval()
            with torch.no_grad():
                return model_.full_sort_predict(Interaction({"user_id": torch.tensor([1, 2, 3])}))

        assert (~build(model, planted).dataset.modality("image").mask).sum() > 1
        torch.testing.assert_close(scores(0.0), scores(1e3), rtol=0, atol=0)

    def test_modality_that_is_not_chosen_has_no_effect(self, model, planted):
        both = planted.register(image="both", text="b")
        config = settings(model, planted, epochs=2)
        chosen = run(model, planted.name, config={**config, "modalities": {"image": both["image"]}}, run_dir="one")
        (planted.folder / f"{planted.name}.modalities.yaml").write_text(
            "modalities:\n" + "".join(f"  {name}: {{file: {entry['file']}}}\n" for name, entry in both.items())
        )
        del config["modalities"]
        named = run(model, planted.name, config={**config, "modalities": "image"}, run_dir="two")
        assert named["test"] == chosen["test"]
        assert set(named["features"]) == {"image"}

    def test_runs_on_cpu_without_cuda(self, model, planted, monkeypatch):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        parts = build(model, planted, {"use_gpu": True, "gpu_id": "0"})
        assert {p.device.type for p in parts.model.parameters()} == {"cpu"}
        assert np.isfinite(parts.trainer._train_epoch(parts.train_data, 0))


class RankingContract(ModelContract):
    """What holds besides for models that rank."""

    def test_seeded_run_repeats(self, model, planted):
        config = settings(model, planted, modalities=planted.register(image="both", text="b"), epochs=3)
        results = [run(model, planted.name, config=config, run_dir=f"repeat{n}") for n in range(2)]
        other = run(model, planted.name, config={**config, "seed": 7}, run_dir="other")
        assert results[0]["test"] == results[1]["test"]
        assert results[0]["valid"] == results[1]["valid"]
        assert other["split"] != results[0]["split"]

    def test_loss_falls(self, model, planted):
        parts = build(model, planted, {"learning_rate": 0.01})
        losses = [parts.trainer._train_epoch(parts.train_data, epoch) for epoch in range(10)]
        assert np.isfinite(losses).all()
        assert np.mean(losses[-2:]) < 0.97 * losses[0]

    def test_beats_random_on_a_planted_answer(self, model, planted):
        config = settings(
            model, planted, modalities=planted.register(image="both", text="b"), epochs=15, learning_rate=0.01
        )
        result = run(model, planted.name, config=config, run_dir="run")
        chance = 10 / planted.n_items  # expected recall@10 of a random ranking, at most
        assert result["test"]["recall@10"] > 2.5 * chance


class ClassifyingContract(ModelContract):
    """What holds besides for models that predict classes."""

    def test_seeded_run_repeats(self, model, labelled):
        config = settings(model, labelled, epochs=3)
        results = [run(model, labelled.name, config=config, run_dir=f"repeat{n}") for n in range(2)]
        same_folds = run(model, labelled.name, config={**config, "seed": 7}, run_dir="seed")
        other_folds = run(model, labelled.name, config={**config, "split_seed": 7}, run_dir="folds")
        assert results[0]["test"] == results[1]["test"]
        assert results[0]["valid"] == results[1]["valid"]
        assert same_folds["split"] == results[0]["split"] != other_folds["split"]

    def test_loss_falls_where_there_is_one(self, model, labelled):
        asked = request(model, labelled.name, config={**settings(model, labelled), "checkpoint_dir": "parts"})
        parts = _build(_configuration(asked), Silent())
        losses = [parts.trainer._train_epoch(parts.train_data, epoch) for epoch in range(10)]
        assert np.isfinite(losses).all()
        assert np.mean(losses[-2:]) < 0.97 * losses[0] or (not parts.model.trains and losses == [0.0] * 10)

    def test_probabilities_sum_to_one(self, model, labelled):
        asked = request(model, labelled.name, config={**settings(model, labelled), "checkpoint_dir": "parts"})
        parts = _build(_configuration(asked), Silent())
        with torch.no_grad():
            p = parts.model.eval().predict_proba(parts.test_data._dataset.inter_feat)
        assert p.shape == (len(parts.test_data._dataset.inter_feat), 3)
        torch.testing.assert_close(p.sum(1), torch.ones(len(p)))
