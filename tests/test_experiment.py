"""Experiments of many runs, and what a modality is worth."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from recbole_mm.cli import main
from recbole_mm.errors import ConfigError, RecBoleMMError
from recbole_mm.evaluation.knock_out import shuffled_modalities
from recbole_mm.experiment import Experiment, experiment_names, read_experiment, run_experiment
from recbole_mm.quick_start import load, run


def experiment_of(labelled):
    return Experiment(
        title="two tables",
        dataset=labelled.name,
        seeds=[1, 2],
        common=labelled.config(metrics=["accuracy", "macro_f1"], valid_metric="accuracy"),
        tables={"honest": {}, "leaky": {"defects": ["leaking_score"]}},
        rows={"majority": {"model": "MajorityClass"}, "user": {"model": "UserClassMean"}},
        columns={"result": {}},
    )


def test_tables_are_means_over_folds_and_seeds(labelled):
    said = []
    cells = run_experiment(experiment_of(labelled), Path("out"), progress=said.append)
    results = [json.loads(Path(f"out/honest/user/result/{seed}/result.json").read_text()) for seed in (1, 2)]
    values = [fold["test"]["accuracy"] for result in results for fold in result["folds"]]
    assert cells["honest", "user", "result"].metrics["accuracy"].mean == pytest.approx(np.mean(values))
    assert [cell.leaky for cell in cells.values()] == [False, False, True, True]
    text = Path("out/tables.md").read_text()
    assert text.count(" leaky |") == 4
    assert len(said) == 4
    assert all(Path(f"out/{metric}.png").read_bytes().startswith(b"\x89PNG") for metric in ("accuracy", "macro_f1"))
    before = Path("out/honest/user/result/1/result.json").stat().st_mtime_ns
    run_experiment(experiment_of(labelled), Path("out"))
    assert Path("out/honest/user/result/1/result.json").stat().st_mtime_ns == before


def test_a_row_may_have_some_columns_only(labelled):
    experiment = Experiment(**{
        **experiment_of(labelled).model_dump(), "seeds": [1], "tables": {"honest": {}},
        "columns": {"one": {}, "two": {"split_seed": 1}}, "only": {"user": ["two"]},
    })  # fmt: skip
    cells = run_experiment(experiment, Path("some"))
    assert [key[1:] for key in cells] == [("majority", "one"), ("majority", "two"), ("user", "two")]
    text = Path("some/tables.md").read_text()
    assert "| user | - | 0." in text
    with pytest.raises(ValueError, match="'three' is not one of one, two"):
        Experiment(**{**experiment.model_dump(), "only": {"user": ["three"]}})


def test_a_single_fold_has_no_interval(labelled):
    experiment = experiment_of(labelled).model_copy(update={"seeds": [1]})
    cells = run_experiment(experiment, Path("fold"), config={"fold": 1})
    result = json.loads(Path("fold/honest/user/result/1/result.json").read_text())
    assert cells["honest", "user", "result"].metrics["accuracy"].mean == result["test"]["accuracy"]
    assert "±" not in Path("fold/tables.md").read_text().partition("##")[2]


def test_runs_side_by_side_give_the_same_tables(labelled):
    one = run_experiment(experiment_of(labelled), Path("one"))
    two = run_experiment(experiment_of(labelled), Path("two"), workers=2)
    assert {key: cell.metrics for key, cell in one.items()} == {key: cell.metrics for key, cell in two.items()}
    assert Path("one/tables.md").read_text() == Path("two/tables.md").read_text()


def test_a_run_that_fails_side_by_side_is_one_error(labelled):
    experiment = experiment_of(labelled).model_copy(update={"common": {"folds": 1}})
    with pytest.raises(ConfigError, match="folds"):
        run_experiment(experiment, Path("failed"), workers=2)
    assert not Path("failed/tables.md").exists()


def end_at_once(*_):
    """Stands where a worker runs a cell: the system ends the process, as when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_that_is_ended_from_outside_is_one_error(labelled, monkeypatch):
    monkeypatch.setattr("recbole_mm.experiment._run_or_resume", end_at_once)
    with pytest.raises(RecBoleMMError, match="lower --workers and repeat the command"):
        run_experiment(experiment_of(labelled), Path("ended"), workers=2)


def test_shipped_experiments_are_well_formed():
    assert experiment_names() == ["flickscore_ablation", "flickscore_notebooks", "flickscore_tables", "leakage_audit"]
    for name in experiment_names():
        assert read_experiment(name).dataset == "flickscore"
    with pytest.raises(ConfigError, match="did you mean 'flickscore_tables'"):
        read_experiment("flickscore_table")


def test_unknown_experiment_on_the_command_line(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["tables", "flickscore_tabels"])
    assert stopped.value.code == 1
    assert "did you mean 'flickscore_tables'" in capsys.readouterr().err


@pytest.mark.parametrize("by_file", [False, True])
def test_experiment_is_a_parameter_of_training_too(labelled, monkeypatch, capsys, by_file):
    monkeypatch.setattr("recbole_mm.experiment.read_experiment", lambda name: {"mine": experiment_of(labelled)}[name])
    monkeypatch.setattr("recbole_mm.experiment.default_workers", lambda: 1)
    Path("mine.yaml").write_text("experiment: mine\nfolds: 2\n")
    words = ["--config_files=mine.yaml"] if by_file else ["--experiment=mine", "--folds=2"]
    with pytest.raises(SystemExit) as stopped:
        main([*words, "--run_dir=there"])
    assert stopped.value.code == 0
    assert "two tables: leaky" in capsys.readouterr().out
    result = json.loads(Path("there/honest/user/result/1/result.json").read_text())
    assert len(result["folds"]) == 2
    with pytest.raises(SystemExit):
        main([*words, "--model=BPR"])
    assert "leave --model out" in capsys.readouterr().err


def test_shuffling_a_modality_changes_what_rests_on_it_and_is_undone(labelled):
    config = labelled.config(fold=1, epochs=15, stopping_step=15, learning_rate=0.005, genre_field=None)
    run("GLScoreClassifier", labelled.name, config=config, run_dir="run")
    parts = load("run")
    before = {name: parts.model.bank.vectors(name).clone() for name in parts.model.bank.names}
    found = shuffled_modalities(parts, seed=1)
    assert set(found) == {"text", "image", "all"}
    assert found["all"][1]["log_loss"] > found["image"][1]["log_loss"]
    whole, shuffled = found["text"]
    assert shuffled["log_loss"] > whole["log_loss"]
    for name, vectors in before.items():
        torch.testing.assert_close(parts.model.bank.vectors(name), vectors, rtol=0, atol=0)
    again = dict(parts.trainer.evaluate(parts.test_data, load_best_model=False))
    assert again == whole
