"""The command line as a user types it: bad input, interruption, resuming, help."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import yaml
from planted import Planted

from recbole_mm.cli import main
from recbole_mm.features import Features, write_feature_file

LONG = ("--epochs=60", "--stopping_step=60")


def command(data: Planted, *words: str, model: str = "MMFusion", dataset: str | None = None) -> list[str]:
    """A short run on planted data; ``words`` win."""
    base = {
        "--model": model, "--dataset": dataset or data.name, "--data_path": str(data.root), "--epochs": "3",
        "--topk": "[10]", "--load_col": "{inter: [user_id, item_id, rating]}", "--train_batch_size": "128",
    }  # fmt: skip
    given = {word.partition("=")[0] for word in words}
    return [f"{key}={value}" for key, value in base.items() if key not in given] + list(words)


@pytest.fixture
def fails(capsys, tmp_path):
    """Run the command; answer the one line it fails with."""

    def run(words: list[str], status: int = 1) -> str:
        with pytest.raises(SystemExit) as stopped:
            main(words)
        err = capsys.readouterr().err
        assert stopped.value.code == status
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        assert "Traceback" not in err
        assert not list(tmp_path.rglob("result.json"))
        return err

    return run


def succeeds(words: list[str], capsys) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 0
    return capsys.readouterr().out


def register(data: Planted, entries: dict) -> None:
    (data.folder / f"{data.name}.modalities.yaml").write_text(yaml.safe_dump({"modalities": entries}))


@pytest.fixture
def ready(planted):
    """Planted data with its features registered as 'features add' does."""
    register(planted, planted.register(image="both", text="b"))
    return planted


# -- names -------------------------------------------------------------------------------------------------------


def test_misspelt_names_offer_the_nearest(ready, fails, tmp_path):
    assert "did you mean 'MMFusion'" in fails(command(ready, model="MMFusoin"))
    assert "did you mean 'LightGCN'" in fails(command(ready, model="LigthGCN"))
    assert "did you mean 'planted'" in fails(command(ready, dataset="plantd"))
    assert "did you mean 'learning_rate'" in fails(command(ready, "--learning_rat=0.1"))
    assert "did you mean 'image'" in fails(command(ready, "--modalities=imgae"))
    assert "did you mean 'compare'" in fails(["compaer", "--models=Pop,EASE"])
    (tmp_path / "c.yaml").write_text("fusionn: gated\n")
    assert "did you mean 'fusion'" in fails(command(ready, f"--config_files={tmp_path}/c.yaml"))


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("--fusion=gate", "'gated'"),
        ("--epochs=many", "epochs='many'"),
        ("--dropout=1.5", "dropout"),
        ("--n_heads=7", "not a multiple of n_heads=7"),
        ("--config_files=nowhere.yaml", "nowhere.yaml"),
        ("--warm_content={text: 1}", "no weight for modality"),
        ("epochs=3", "--key=value"),
        ("--save_dataset=true", "nothing is unpickled"),
        ("--metrics=[NDGC]", "ndgc"),
        ("--loss=hinge", "'cross_entropy'"),
        ("--embedding_size=1000000000000", "out of memory"),
        ("--topk=[10, 500]", "topk=[10, 500]: expected at most 90, the number of items of 'planted'; set topk"),
        ("--topk=[5]", "valid_metric=NDCG@10: expected one of metrics="),
    ],
)
def test_wrong_values_are_named(ready, fails, word, hint):
    assert hint.lower() in fails(command(ready, word)).lower()


def test_own_models_that_are_not_there(ready, fails, tmp_path):
    (tmp_path / "mine.py").write_text("class Model:\n    pass\n")
    assert "cannot import 'no_such_module'" in fails(command(ready, model="no_such_module:Model"))
    assert "did you mean 'Model'" in fails(command(ready, model="mine:Modle"))
    assert "not a RecBole model" in fails(command(ready, model="mine:Model"))


# -- features ----------------------------------------------------------------------------------------------------


def test_bad_feature_files(ready, fails):
    path = ready.file("image")
    whole = path.read_bytes()
    good = ready.features("both")

    def with_file(features: Features) -> str:
        path.unlink(missing_ok=True)
        write_feature_file(path, features)
        return fails(command(ready))

    path.write_bytes(whole[: len(whole) // 2])
    assert "truncated" in fails(command(ready))
    path.unlink()
    assert "no such feature file" in fails(command(ready)) or "no such file" in fails(command(ready))
    strange = Features(good.vectors, tuple(f"x{t}" for t in good.tokens), {}, "strange")
    assert "no item of the data set has a feature" in with_file(strange)
    partly = Features(good.vectors, ("x0", *good.tokens[1:]), {}, "partly")
    assert "allow_unknown: true" in with_file(partly)
    for bad in (np.nan, np.inf):
        path.unlink(missing_ok=True)
        vectors = good.vectors.copy()
        vectors[3, 2] = bad
        np.savez(path.with_suffix(".npz"), ids=np.array(good.tokens), x=vectors)
        register(ready, {"image": {"file": path.with_suffix(".npz").name}})
        message = fails(command(ready))
        assert "NaN or infinite" in message
        assert "'i3'" in message
    np.savez(path.with_suffix(".npz"), ids=np.array(["i1", "i1"]), x=np.ones((2, 3)))
    assert "'i1' occurs more than once" in fails(command(ready))
    np.savez(path.with_suffix(".npz"), ids=np.array(["i1", "i2"]), x=np.ones((3, 3)))
    assert "2 tokens for 3 vectors" in fails(command(ready))


def test_features_of_another_width_do_not_fit_a_checkpoint(ready, fails, tmp_path):
    run_dir = interrupted_run(ready, tmp_path)
    write_feature_file(ready.file("image"), ready.features("both", width=5))
    assert "another shape" in fails(["--resume", str(run_dir)])


def test_features_add_and_show(ready, fails, capsys, tmp_path):
    source = tmp_path / "audio.npz"
    audio = ready.features("a")
    np.savez(source, ids=np.array(audio.tokens), x=audio.vectors)
    words = ["--dataset", ready.name, "--data_path", str(ready.root)]
    succeeds(["features", "add", *words, "--modality", "audio", "--file", str(source)], capsys)
    shown = succeeds(["features", "show", *words], capsys)
    assert "audio" in shown
    assert f"{len(audio.tokens)} x {audio.width}" in shown
    out = succeeds(command(ready, "--modalities=audio", "--run_dir=run"), capsys)
    assert "ndcg@10" in out
    assert json.loads((tmp_path / "run" / "result.json").read_text())["features"].keys() == {"audio"}


def test_bad_features_are_not_added(ready, fails, tmp_path):
    before = (ready.folder / f"{ready.name}.modalities.yaml").read_bytes()
    source = tmp_path / "audio.npz"
    np.savez(source, ids=np.array(["i1"]), x=np.full((1, 3), np.nan))
    words = ["features", "add", "--dataset", ready.name, "--data_path", str(ready.root), "--modality", "audio"]
    assert "NaN" in fails([*words, "--file", str(source)])
    assert "nowhere.npz" in fails([*words, "--file", "nowhere.npz"])
    assert (ready.folder / f"{ready.name}.modalities.yaml").read_bytes() == before
    assert not ready.file("audio").exists()


# -- data and directories ----------------------------------------------------------------------------------------


def test_empty_interactions(ready, fails):
    ready.write_interactions([])
    assert "no interactions" in fails(command(ready))
    (ready.folder / f"{ready.name}.inter").write_text("")
    fails(command(ready))


def test_filters_that_leave_nothing(ready, fails):
    assert "planted" in fails(command(ready, "--user_inter_num_interval=[1000,inf)"))


def test_unwritable_run_directory(ready, fails, tmp_path):
    (tmp_path / "file").write_text("")
    assert "cannot write a run there" in fails(command(ready, f"--run_dir={tmp_path}/file/run"))


def test_a_run_is_not_overwritten(ready, capsys, tmp_path):
    succeeds(command(ready, "--run_dir=run", model="Pop"), capsys)
    before = (tmp_path / "run" / "result.json").read_bytes()
    with pytest.raises(SystemExit) as stopped:
        main(command(ready, "--run_dir=run", model="Pop"))
    assert stopped.value.code == 1
    assert "holds a run already" in capsys.readouterr().err
    assert (tmp_path / "run" / "result.json").read_bytes() == before


def test_checkpoints_of_another_model_or_data_set(ready, fails, tmp_path):
    run_dir = interrupted_run(ready, tmp_path)
    assert "asked for 'BPR'" in fails(["--model=BPR", "--resume", str(run_dir)])
    config = run_dir / "config.yaml"
    config.write_text(config.read_text().replace("model: MMFusion", "model: VBPR"))
    fails(["--resume", str(run_dir)])
    config.write_text(config.read_text().replace("model: VBPR", "model: MMFusion"))
    rows = [(u, i, r) for u, i, r in ready.rows if u != "u3"]
    ready.write_interactions(rows)
    assert "checkpoint has users" in fails(["--resume", str(run_dir)])
    assert "no config.yaml" in fails(["--resume", str(tmp_path)])


def test_a_checkpoint_that_is_not_one(ready, fails, tmp_path):
    run_dir = interrupted_run(ready, tmp_path)
    (run_dir / "last.safetensors").write_bytes(b"\x80\x04not a checkpoint")
    assert "last.safetensors" in fails(["--resume", str(run_dir)])


# -- interruption ------------------------------------------------------------------------------------------------


def interrupted_run(data: Planted, tmp_path, model: str = "MMFusion"):
    """Start a run in a process of its own, press Ctrl-C after an epoch or two, and answer its directory."""
    run_dir = tmp_path / "stopped"
    words = command(data, f"--run_dir={run_dir}", *LONG, model=model)
    process = subprocess.Popen(
        [sys.executable, "-m", "recbole_mm", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    while not (line := process.stdout.readline()).startswith("epoch"):
        assert line, process.stderr.read()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, out + err
    assert err.startswith("error: interrupted after epoch")
    assert f"--resume={run_dir}" in err
    assert err.count("\n") == 1
    assert not (run_dir / "result.json").exists()
    return run_dir


@pytest.mark.parametrize("model", ["MMFusion", "VBPR", "BPR"])
def test_resumed_run_ends_as_an_uninterrupted_one(ready, capsys, tmp_path, model):
    run_dir = interrupted_run(ready, tmp_path, model)
    succeeds(["--resume", str(run_dir)], capsys)
    succeeds(command(ready, "--run_dir=whole", *LONG, model=model), capsys)
    resumed, whole = (json.loads((tmp_path / d / "result.json").read_text()) for d in ("stopped", "whole"))
    for key in ("valid", "test", "epochs", "best_epoch", "split", "parameters"):
        assert resumed[key] == whole[key]
    assert (run_dir / "per_user.csv").read_bytes() == (tmp_path / "whole" / "per_user.csv").read_bytes()


# -- what a run leaves -------------------------------------------------------------------------------------------


def test_run_directory_is_complete_and_reproduces(ready, capsys, tmp_path):
    out = succeeds(command(ready, "--run_dir=run"), capsys)
    assert out.rstrip().endswith("written to run")
    assert {p.name for p in (tmp_path / "run").iterdir()} == {
        "result.json", "config.yaml", "log.txt", "curves.png", "model.safetensors", "model.json", "per_user.csv",
    }  # fmt: skip
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    for key in (
        "model", "dataset", "seed", "valid", "test", "parameters", "epochs", "train_s", "eval_s", "wall_s",
        "peak_rss_mb", "versions", "features",
    ):  # fmt: skip
        assert key in result
    assert result["features"]["image"]["encoder"] == "both"
    succeeds(["--config_files=run/config.yaml", "--run_dir=again"], capsys)
    again = json.loads((tmp_path / "again" / "result.json").read_text())
    assert again["test"] == result["test"]


def test_help_does_not_import_the_heavy_libraries():
    code = (
        "import sys\nfrom recbole_mm.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as stop:\n    assert stop.code == 0\n"
        "heavy = {'torch', 'recbole', 'pandas', 'numpy', 'matplotlib', 'transformers'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for word in ("train", "compare", "features"):
        assert word in done.stdout


def test_debug_shows_the_traceback(ready, capsys):
    with pytest.raises(SystemExit):
        main(["--debug", *command(ready, model="MMFusoin")])
    assert "Traceback" in capsys.readouterr().err


OWN_MODEL = """
import torch
from recbole.model.abstract_recommender import GeneralRecommender
from recbole.utils import InputType


class Nearest(GeneralRecommender):
    input_type = InputType.PAIRWISE

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.scale = torch.nn.Parameter(torch.tensor(float(config["own_scale"])))
        features = torch.from_numpy(dataset.get_preload_weight("image"))
        history = torch.from_numpy(dataset.inter_matrix(form="csr").toarray())
        self.register_buffer("scores", history.float() @ features @ features.T)

    def calculate_loss(self, interaction):
        return (self.scale - 1) ** 2

    def predict(self, interaction):
        return self.scale * self.scores[interaction[self.USER_ID], interaction[self.ITEM_ID]]

    def full_sort_predict(self, interaction):
        return self.scale * self.scores[interaction[self.USER_ID]]
"""


def test_a_model_of_the_users_own_module(ready, capsys, tmp_path):
    (tmp_path / "own_models.py").write_text(OWN_MODEL)
    (tmp_path / "Nearest.yaml").write_text("own_scale: 2.0\n")
    out = succeeds(command(ready, "--run_dir=run", model="own_models:Nearest"), capsys)
    assert "own_models:Nearest on planted" in out
    assert json.loads((tmp_path / "run" / "result.json").read_text())["test"]["recall@10"] > 0.3
    succeeds(["--config_files=run/config.yaml", "--own_scale=3", "--run_dir=again"], capsys)
    assert yaml.safe_load((tmp_path / "again" / "config.yaml").read_text())["own_scale"] == 3
