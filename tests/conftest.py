import os
from pathlib import Path

import pytest

# many small matrices: threads cost more than they give
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

from labels import Labelled
from planted import Planted
from variants import FACTS, VARIANTS

from recbole_mm.quick_start import run
from recbole_mm.recommend import Recommender

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def _in_empty_folder(tmp_path, monkeypatch):
    """Nothing is written outside the test's own folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def planted(tmp_path):
    return Planted(tmp_path / "dataset").write()


@pytest.fixture
def labelled(tmp_path):
    return Labelled(tmp_path / "dataset").write()


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """Runs by variant, trained when asked for."""
    root = tmp_path_factory.mktemp("runs")
    data = Planted(root / "dataset").write()
    modalities = {**data.register(image="both", text="b"), **FACTS}
    made = {}

    def get(name: str, model: str | None = None, over: dict | None = None):
        if name not in made:
            model, over = VARIANTS[name] if model is None else (model, over)
            config = data.config(modalities=modalities, epochs=3, **over)
            run(model, data.name, config=config, run_dir=root / name)
            made[name] = root / name
        return made[name]

    return get


@pytest.fixture
def recommender(runs):
    return Recommender.load(runs("default"))
