import os
from pathlib import Path

import pytest

# many small matrices: threads cost more than they give
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

from labels import Labelled
from planted import Planted

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
