"""The directory of one run: configuration, log, result, curves, checkpoint."""

import hashlib
import importlib.metadata
import json
import logging
import platform
import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from recbole_mm.errors import CheckpointError
from recbole_mm.files import write_text

CONFIG, LOG, RESULT, PER_USER = "config.yaml", "log.txt", "result.json", "per_user.csv"
# Derived by RecBole from the other parameters, or of this machine; a config.yaml holds what reproduces a run.
_DERIVED = {
    "MODEL_TYPE", "MODEL_INPUT_TYPE", "eval_type", "device", "single_spec", "local_rank", "valid_metric_bigger",
    "valid_neg_sample_args", "test_neg_sample_args", "checkpoint_dir", "run_dir", "data_path", "config_files",
}  # fmt: skip
_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def create(run_dir: str | Path | None, dataset: str, model: str) -> Path:
    """Make the directory of a new run.

    Raises:
        CheckpointError: it holds a run already, or cannot be written to.
    """
    if run_dir is None:
        stamp = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
        path = Path("runs") / dataset / model / f"{stamp}-{uuid.uuid4().hex[:6]}"
    else:
        path = Path(run_dir)
        if (path / CONFIG).exists() or (path / RESULT).exists():
            raise CheckpointError(f"{path}: holds a run already; choose another --run_dir, or --resume={path}")
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot write a run there ({error.strerror}); choose another --run_dir"
        ) from error
    return path


def write_config(path: Path, config: Any, model_spec: str, data_path: str) -> None:
    """Write every parameter that reproduces the run, as YAML that ``--config_files`` reads."""
    values = {k: v for k, v in config.final_config_dict.items() if k not in _DERIVED}
    if values.get("train_neg_sample_args", {}).get("distribution") == "none":
        values["train_neg_sample_args"] = None  # how RecBole wants to be told
    values.update({"model": model_spec, "data_path": data_path})
    ordered = {k: values[k] for k in sorted(values, key=lambda k: (k not in {"model", "dataset"}, str(k)))}
    text = yaml.safe_dump(_plain(ordered), sort_keys=False, allow_unicode=True)
    write_text(path / CONFIG, "# Reproduce: recbole-mm --config_files=config.yaml\n" + text)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def write_result(path: Path, result: Mapping[str, Any]) -> None:
    """Write ``result.json``."""
    write_text(path / RESULT, json.dumps(result, indent=2, ensure_ascii=False) + "\n")


def read_result(path: Path) -> dict[str, Any]:
    """Read ``result.json``.

    Raises:
        CheckpointError: there is none, or it is not JSON.
    """
    try:
        result: dict[str, Any] = json.loads((path / RESULT).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path / RESULT}: no readable result ({error})") from error
    return result


class _PlainFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return _ANSI.sub("", super().format(record))


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Send RecBole's log and ours to ``log.txt``; RecBole logs through the root logger, so the handler is there."""
    handler = logging.FileHandler(path / LOG, encoding="utf-8")
    handler.setFormatter(_PlainFormatter("%(asctime)s %(levelname)s %(message)s"))
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.removeHandler(handler)
        root.setLevel(level)
        handler.close()


def versions() -> dict[str, str]:
    """Versions of what a figure depends on."""
    names = ("recbole-mm", "recbole", "torch", "numpy", "scipy", "pandas")
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed as a package"
    return found


def digest(*parts: Any) -> str:
    """Short SHA-256 of arrays and texts, to tell whether two runs saw the same data."""
    sha = hashlib.sha256()
    for part in parts:
        sha.update(part if isinstance(part, bytes) else str(part).encode("utf-8"))
        sha.update(b"\x00")
    return sha.hexdigest()[:16]
