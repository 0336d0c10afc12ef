"""One run from names to a result: ``recbole_mm.run(model="MMFusion", dataset="imdb")``."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from recbole_mm import run_directory
from recbole_mm.catalogue import find_model
from recbole_mm.config import Config, read_yaml
from recbole_mm.cross_validation import classifies_labels, run_folds, wants_folds, write_predictions
from recbole_mm.data import create_dataset, prepare_files, split
from recbole_mm.data.protocol import ProtocolConfig
from recbole_mm.errors import CheckpointError, ConfigError, DataError
from recbole_mm.files import replacing
from recbole_mm.reporting import plot_curves
from recbole_mm.trainer import LAST, EpochRecord, trainer_for


class Reporter(Protocol):
    """Hears how a run goes."""

    def stage(self, text: str) -> None:
        """A stage begins."""

    def begin(self, config: Config, done: int) -> None:
        """Training begins; ``done`` epochs are finished already."""

    def epoch(self, record: EpochRecord) -> None:
        """An epoch is finished."""

    def end(self) -> None:
        """Training has ended, well or not."""


class Silent:
    """A reporter that says nothing."""

    def stage(self, text: str) -> None:
        """Nothing."""

    def begin(self, config: Config, done: int) -> None:
        """Nothing."""

    def epoch(self, record: EpochRecord) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""


@dataclass
class Run:
    """The parts of one run, built and not yet trained."""

    config: Config
    dataset: Any
    train_data: Any
    valid_data: Any
    test_data: Any
    model: Any
    trainer: Any
    build_s: float


@dataclass(frozen=True)
class Request:
    """What is to be run, with everything read and nothing loaded."""

    model_spec: str
    dataset: str
    config_files: tuple[Path, ...]
    overrides: dict[str, Any]

    @property
    def data_path(self) -> Path:
        """Folder of the data sets' folders."""
        return Path(str(self._parameter("data_path", "dataset/")))

    def _parameter(self, key: str, default: Any) -> Any:
        for source in (self.overrides, *(read_yaml(f) for f in reversed(self.config_files))):
            if source.get(key) is not None:
                return source[key]
        return default


def request(
    model: str | None,
    dataset: str | None,
    config_files: Sequence[str | Path] = (),
    config: Mapping[str, Any] | None = None,
) -> Request:
    """Read model and data set from the arguments or the files.

    Raises:
        ConfigError: neither names a model or a data set.
    """
    files, overrides = tuple(Path(f) for f in config_files), dict(config or {})
    bare = Request("", "", files, overrides)
    model, dataset = (model or bare._parameter("model", None)), (dataset or bare._parameter("dataset", None))
    for name, value in (("model", model), ("dataset", dataset)):
        if not isinstance(value, str) or not value:
            raise ConfigError(f"no {name} given; expected --{name}=NAME, or '{name}: NAME' in a config file")
    for key in ("model", "dataset"):
        overrides.pop(key, None)
    return Request(str(model), str(dataset), files, overrides)


def run(
    model: str | None = None,
    dataset: str | None = None,
    *,
    config_files: Sequence[str | Path] = (),
    config: Mapping[str, Any] | None = None,
    run_dir: str | Path | None = None,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Train with early stopping on validation, evaluate once on test, and write the run's directory.

    Args:
        model: ours, RecBole's, or ``package.module:Class``.
        dataset: a folder of atomic files under ``data_path``, ``imdb`` or ``ml-100k``.
        config_files: YAML property files; later ones win.
        config: parameters that win over the files.
        run_dir: where to write; ``runs/<dataset>/<model>/<time>/`` by default.
        reporter: hears how it goes.

    Returns:
        What ``result.json`` holds, and ``run_dir``.

    Raises:
        RecBoleMMError: one clear line, see :mod:`recbole_mm.errors`.
    """
    started = time.perf_counter()
    asked = request(model, dataset, config_files, config)
    reporter = reporter or Silent()
    ref = find_model(asked.model_spec)
    prepare_files(asked.dataset, asked.data_path)
    configuration = _configuration(asked)
    where = run_directory.create(run_dir or configuration["run_dir"], asked.dataset, ref.name)
    configuration["checkpoint_dir"] = str(where)
    if wants_folds(configuration):
        run_directory.write_config(where, configuration, asked.model_spec, str(asked.data_path))
        return _run_folds(asked, configuration, where, reporter)
    with run_directory.logging_to(where):
        parts = _build(configuration, reporter)
        run_directory.write_config(where, configuration, asked.model_spec, str(asked.data_path))
        return _finish(parts, asked, where, started, reporter)


def resume(run_dir: str | Path, *, reporter: Reporter | None = None) -> dict[str, Any]:
    """Go on from the last finished epoch of an interrupted run, to the result of an uninterrupted one.

    Raises:
        CheckpointError: there is no run, or its checkpoint is of another model or data set.
    """
    started = time.perf_counter()
    where, reporter = Path(run_dir), reporter or Silent()
    if not (where / run_directory.CONFIG).is_file():
        raise CheckpointError(f"{where}: no {run_directory.CONFIG}; expected the directory of a run")
    if (where / run_directory.RESULT).is_file():
        return {**run_directory.read_result(where), "run_dir": str(where)}
    asked = request(None, None, [where / run_directory.CONFIG])
    prepare_files(asked.dataset, asked.data_path)
    configuration = _configuration(asked)
    configuration["checkpoint_dir"] = str(where)
    if wants_folds(configuration):
        return _run_folds(asked, configuration, where, reporter)
    with run_directory.logging_to(where):
        parts = _build(configuration, reporter)
        if (where / LAST).is_file():  # otherwise it was interrupted in its first epoch
            parts.trainer.resume()
        return _finish(parts, asked, where, started, reporter)


def _run_folds(asked: Request, configuration: Config, where: Path, reporter: Reporter) -> dict[str, Any]:
    """Every fold as a run in a directory of its own; those that are finished are taken over."""

    def run_fold(fold: int, folder: Path) -> dict[str, Any]:
        if (folder / run_directory.CONFIG).is_file():
            return resume(folder, reporter=reporter)
        config = {**asked.overrides, "fold": fold, "run_dir": None}
        return run(
            asked.model_spec, asked.dataset, config_files=asked.config_files, config=config, run_dir=folder,
            reporter=reporter,
        )  # fmt: skip

    return run_folds(where, ProtocolConfig.read(configuration), run_fold, reporter.stage)


def load(run_dir: str | Path) -> Run:
    """The trained model of a finished run with its data, ready to score.

    Raises:
        CheckpointError: there is no finished run, or its checkpoint does not fit.
    """
    where = Path(run_dir)
    if not (where / run_directory.CONFIG).is_file():
        raise CheckpointError(f"{where}: no {run_directory.CONFIG}; expected the directory of a run")
    asked = request(None, None, [where / run_directory.CONFIG])
    prepare_files(asked.dataset, asked.data_path)
    configuration = _configuration(asked)
    configuration["checkpoint_dir"] = str(where)
    parts = _build(configuration, Silent())
    parts.trainer.load_best()
    parts.model.eval()
    return parts


def _configuration(asked: Request) -> Config:
    ref = find_model(asked.model_spec)
    return Config(ref.load(), asked.dataset, asked.config_files, asked.overrides, strict=ref.origin != "user")


def _build(config: Config, reporter: Reporter) -> Run:
    """In RecBole's order of random draws, so that the same seed gives RecBole's own figures."""
    from recbole.utils import init_seed

    reporter.stage(f"loading {config['dataset']}")
    init_seed(config["seed"], config["reproducibility"])
    dataset = create_dataset(config)
    train_data, valid_data, test_data = split(config, dataset)
    identity = {
        "model": config["model"],
        "dataset": config["dataset"],
        "users": run_directory.digest(*dataset.field2id_token[dataset.uid_field]),
        "items": run_directory.digest(*dataset.field2id_token[dataset.iid_field]),
    }
    reporter.stage(f"building {config['model']}")
    init_seed(config["seed"] + config["local_rank"], config["reproducibility"])
    start = time.perf_counter()
    try:
        model = config.model_class(config, train_data._dataset).to(config["device"])
    except (KeyError, AttributeError, TypeError, NotImplementedError) as error:
        raise ConfigError(
            f"{config['model']} cannot be built on '{config['dataset']}': {error}; check that the data set and its "
            "load_col have the fields that the model needs"
        ) from error
    build_s = time.perf_counter() - start
    trainer = trainer_for(config)(config, model, identity, reporter.epoch)
    return Run(config, dataset, train_data, valid_data, test_data, model, trainer, build_s)


def _finish(parts: Run, asked: Request, where: Path, started: float, reporter: Reporter) -> dict[str, Any]:
    trainer, config = parts.trainer, parts.config
    reporter.begin(config, len(trainer.history))
    try:
        if not trainer.stopped:
            trainer.fit(parts.train_data, parts.valid_data, verbose=True, saved=True, show_progress=False)
    except ValueError as error:
        if "nan" in str(error).lower():
            raise ConfigError(f"{error} in epoch {len(trainer.history) + 1}; try a smaller learning_rate") from error
        raise
    finally:
        reporter.end()
    reporter.stage("testing")
    valid = _timed(lambda: trainer.evaluate(parts.valid_data, load_best_model=True))
    test = _timed(lambda: trainer.evaluate(parts.test_data, load_best_model=False))
    if valid[0] is None or test[0] is None:
        raise DataError("validation or test part is empty; expected rows: check eval_args")
    _write_per_user(where / run_directory.PER_USER, parts)
    result = _result(parts, asked, dict(valid[0]), dict(test[0]))
    if classifies_labels(config):
        write_predictions(where, parts)
        setting = ProtocolConfig.read(config)
        result.update(protocol=setting.protocol, leaky=setting.leaky)
    result["eval_s"] = round(result["eval_s"] + valid[1] + test[1], 3)
    plot_curves(
        where / "curves.png", trainer.history, title=f"{config['model']} on {config['dataset']}, seed {config['seed']}",
        valid_metric=config["valid_metric"],
    )  # fmt: skip
    _write_summary(where, result)
    result["wall_s"] = round(time.perf_counter() - started, 3)
    result["peak_rss_mb"] = _peak_rss_mb()
    run_directory.write_result(where, result)  # last: its presence says that the run is whole
    (where / LAST).unlink(missing_ok=True)
    return {**result, "run_dir": str(where)}


def _timed(action: Any) -> tuple[Any, float]:
    start = time.perf_counter()
    return action(), time.perf_counter() - start


def _result(parts: Run, asked: Request, valid: dict[str, float], test: dict[str, float]) -> dict[str, Any]:
    trainer, config = parts.trainer, parts.config
    last = trainer.history[-1] if trainer.history else None
    provenance = {
        name: {
            **dict(aligned.features.provenance),
            "items_with_vector": int(aligned.mask.sum()),
            "width": aligned.width,
        }
        for name, aligned in parts.dataset.modalities.items()
    }
    return {
        "model": asked.model_spec,
        "dataset": config["dataset"],
        "seed": config["seed"],
        "valid_metric": config["valid_metric"].lower(),
        "valid": valid,
        "test": test,
        "parameters": sum(p.numel() for p in parts.model.parameters() if p.requires_grad),
        "epochs": len(trainer.history),
        "best_epoch": last.best_epoch + 1 if last and last.best_epoch is not None else None,
        "train_s": round(parts.build_s + sum(r.train_s for r in trainer.history), 3),
        "eval_s": sum(r.eval_s for r in trainer.history),
        "device": str(config["device"]),
        "split": split_digest(parts),
        "users": parts.dataset.user_num - 1,
        "items": parts.dataset.item_num - 1,
        "interactions": len(parts.dataset.inter_feat),
        "versions": run_directory.versions(),
        "features": provenance,
    }


def split_digest(parts: Run) -> str:
    """Tells whether two runs saw the same split: a digest of the sorted (user, item) pairs of its three parts."""
    arrays = []
    for loader in (parts.train_data, parts.valid_data, parts.test_data):
        inter = loader._dataset.inter_feat
        pairs = np.stack([inter[parts.dataset.uid_field].numpy(), inter[parts.dataset.iid_field].numpy()], axis=1)
        arrays.append(np.unique(pairs, axis=0).tobytes())
    return run_directory.digest(*arrays)


def _write_per_user(path: Path, parts: Run) -> None:
    values = parts.trainer.per_user
    uids = getattr(parts.test_data, "uid_list", None)
    if not values or uids is None or any(len(v) != len(uids) for v in values.values()):
        return
    tokens = parts.dataset.id2token(parts.dataset.uid_field, np.asarray(uids))
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(",".join([parts.dataset.uid_field, *values]) + "\n")
        for row, token in enumerate(tokens):
            file.write(",".join([str(token), *(f"{v[row]:.6f}" for v in values.values())]) + "\n")


def _write_summary(where: Path, result: Mapping[str, Any]) -> None:
    """``model.json``: what ``model.safetensors`` is, for people and tools."""
    import json

    keys = ("model", "dataset", "seed", "best_epoch", "valid", "parameters", "versions")
    content = {"checkpoint": "model.safetensors", **{k: result[k] for k in keys}}
    with replacing(where / "model.json") as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _peak_rss_mb() -> float:
    """Peak memory of this process alone: Linux's ru_maxrss also holds what the parent had when it started us."""
    import resource
    import sys

    status = Path("/proc/self/status")
    if status.is_file():
        line = next(row for row in status.read_text().splitlines() if row.startswith("VmHWM"))
        return round(int(line.split()[1]) / 1024, 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1024 if sys.platform != "darwin" else 1024**2), 1)
