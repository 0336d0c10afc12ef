"""The repository's own rules: ruff, mypy --strict, import-linter, and what may not be in the tree."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LINT = "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())"


@pytest.mark.parametrize(
    "words",
    [["-m", "ruff", "check", "."], ["-m", "ruff", "format", "--check", "."], ["-m", "mypy"], ["-c", LINT]],
    ids=["ruff", "format", "mypy", "import-linter"],
)
def test_tool_is_content(words):
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_nothing_is_unpickled_or_evaluated():
    forbidden = re.compile(
        r"pickle\.load|allow_pickle=True|weights_only=False|(?<![\w.])eval\(|torch\.load\((?![^)]*weights_only=True)"
    )
    for file in (ROOT / "recbole_mm").rglob("*.py"):
        assert not forbidden.search(file.read_text()), file


def test_files_stay_small():
    for folder in ("recbole_mm", "tests", "benchmarks"):
        for file in (ROOT / folder).rglob("*.py"):
            assert len(file.read_text().splitlines()) <= 400, file


def test_shipped_features_are_small_and_tell_where_they_come_from():
    from recbole_mm.features import open_feature_file

    for name in ("text", "credits", "image"):
        path = ROOT / "dataset" / "imdb" / f"imdb.{name}.safetensors"
        features = open_feature_file(path)
        assert path.stat().st_size < 6_000_000
        for key in ("encoder", "checkpoint", "pooling", "preprocessing", "source", "licence", "coverage"):
            assert features.provenance[key]
