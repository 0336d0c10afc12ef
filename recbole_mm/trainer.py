"""RecBole's trainers, writing checkpoints without pickle, resuming exactly, and telling how training goes."""

import contextlib
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from recbole_mm import compat
from recbole_mm.checkpoint import load_state, read_summary, save_state
from recbole_mm.errors import CheckpointError

compat.apply()

import recbole.trainer.trainer as recbole_trainer  # noqa: E402
from recbole.evaluator import Evaluator  # noqa: E402
from recbole.utils import EvaluatorType, get_trainer  # noqa: E402

# RecBole's metrics that are a mean over users, by what their metric_info takes
_NEED_POSITIVES, _NEED_RANKS_ONLY = {"ndcg", "recall", "map"}, {"hit", "mrr", "precision"}
BEST, LAST = "model.safetensors", "last.safetensors"


@dataclass(frozen=True)
class EpochRecord:
    """One finished epoch, for progress, curves and the log."""

    epoch: int
    loss: float
    train_s: float
    eval_s: float
    valid_score: float | None
    best_score: float | None
    best_epoch: int | None


class _NoTensorboard:
    """Stands where RecBole keeps its SummaryWriter, which would leave a folder in the working directory."""

    def add_scalar(self, *_: Any) -> None:
        """Nothing."""

    def add_hparams(self, *_: Any) -> None:
        """Nothing."""


@contextlib.contextmanager
def _without_tensorboard() -> Iterator[None]:
    original = recbole_trainer.get_tensorboard
    recbole_trainer.get_tensorboard = lambda _logger: _NoTensorboard()
    try:
        yield
    finally:
        recbole_trainer.get_tensorboard = original


class _PerUserEvaluator(Evaluator):  # type: ignore[misc]
    """RecBole's evaluator, keeping each user's values of the last top-k evaluation."""

    per_user: dict[str, NDArray[Any]]
    scores: NDArray[Any] | None = None  # of the last evaluation by value metrics, in the part's order

    def evaluate(self, dataobject: Any) -> dict[str, float]:
        self.per_user = {}
        self.scores = dataobject.get("rec.score").numpy() if "rec.score" in dataobject else None
        if "rec.topk" in dataobject:
            for name, metric in self.metric_class.items():
                if name in _NEED_POSITIVES | _NEED_RANKS_ONLY:
                    pos_index, pos_len = metric.used_info(dataobject)
                    values = metric.metric_info(*((pos_index, pos_len) if name in _NEED_POSITIVES else (pos_index,)))
                    self.per_user.update({f"{name}@{k}": values[:, k - 1] for k in metric.topk})
        result: dict[str, float] = super().evaluate(dataobject)
        return {key: float(value) for key, value in result.items()}


class RunTrainerMixin:
    """Over any of RecBole's trainers; ``checkpoint_dir`` is the run directory.

    Args:
        config: the run's configuration.
        model: the model to train.
        identity: what a checkpoint must agree on: model, data set, digests of the vocabularies.
        on_epoch: called after each epoch.
    """

    def __init__(
        self, config: Any, model: Any, identity: dict[str, Any], on_epoch: Callable[[EpochRecord], None]
    ) -> None:
        with _without_tensorboard():
            super().__init__(config, model)  # type: ignore[call-arg]
        self.run_dir = Path(config["checkpoint_dir"])
        self.identity = identity
        self.on_epoch = on_epoch
        self.history: list[EpochRecord] = []
        self.saved_model_file = str(self.run_dir / BEST)
        self.evaluator = _PerUserEvaluator(config)
        self.stopped = False
        self._clock = {"train": 0.0, "eval": 0.0}
        self._loaders: list[Any] = []
        self._validated = True

    # -- training ---------------------------------------------------------------------------------------------

    def fit(self, train_data: Any, valid_data: Any = None, **kwargs: Any) -> Any:
        """As RecBole's, with an exact resume point after every epoch."""
        nested = (getattr(train_data, name, None) for name in ("general_dataloader", "kg_dataloader"))
        self._loaders = [loader for loader in (train_data, *nested) if loader is not None]
        self._validated = bool(valid_data) and self.eval_step > 0  # type: ignore[attr-defined]
        if self._resumed is not None:
            self._restore_random_state(self._resumed)
        return super().fit(train_data, valid_data, **{**kwargs, "callback_fn": self._epoch_done})  # type: ignore[misc]

    _resumed: dict[str, Any] | None = None

    def _train_epoch(self, train_data: Any, epoch_idx: int, *args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        step = self.config["lr_step"]  # type: ignore[attr-defined]
        if step > 0 and epoch_idx and epoch_idx % step == 0:
            for group in self.optimizer.param_groups:  # type: ignore[attr-defined]  # saved with the optimizer
                group["lr"] *= self.config["lr_factor"]  # type: ignore[attr-defined]
        loss = super()._train_epoch(train_data, epoch_idx, *args, **kwargs)  # type: ignore[misc]
        self._clock["train"] = time.perf_counter() - start
        return loss

    def _valid_epoch(self, *args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        result = super()._valid_epoch(*args, **kwargs)  # type: ignore[misc]
        self._clock["eval"] = time.perf_counter() - start
        return result

    def _epoch_done(self, epoch: int, valid_score: float | None) -> None:
        best_epoch = epoch - self.cur_step * self.eval_step if self._validated else epoch  # type: ignore[attr-defined]
        record = EpochRecord(
            epoch=epoch,
            loss=float(self.train_loss_dict.get(epoch, float("nan"))),
            train_s=self._clock["train"],
            eval_s=self._clock["eval"] if self._validated else 0.0,
            valid_score=None if valid_score is None else float(valid_score),
            best_score=float(self.best_valid_score) if self._validated else None,
            best_epoch=best_epoch,
        )
        self.history.append(record)
        self._save_last(epoch)
        self.on_epoch(record)

    # -- checkpoints ------------------------------------------------------------------------------------------

    def _model_state(self) -> dict[str, Any]:
        return {"state_dict": dict(self.model.state_dict()), "other_parameter": self.model.other_parameter()}  # type: ignore[attr-defined]

    def _save_checkpoint(self, epoch: int, verbose: bool = True, **_: Any) -> None:
        summary = {**self.identity, "epoch": epoch, "best_valid_score": _number(self.best_valid_score)}
        save_state(self.run_dir / BEST, self._model_state(), summary)
        if verbose:
            self.logger.info("saved %s", self.run_dir / BEST)  # type: ignore[attr-defined]
        if not self._validated:
            self._epoch_done(epoch, None)

    def _save_last(self, epoch: int) -> None:
        optimizers = {k: v.state_dict() for k, v in vars(self).items() if isinstance(v, torch.optim.Optimizer)}
        state = {
            **self._model_state(),
            "optimizers": optimizers,
            "epoch": epoch,
            "cur_step": self.cur_step,
            "best_valid_score": self.best_valid_score,
            "best_valid_result": dict(self.best_valid_result or {}),
            "train_loss": dict(self.train_loss_dict),
            "history": [asdict(record) for record in self.history],
            "random": _random_state(),
            "generators": [loader.generator.get_state() for loader in self._loaders],
        }
        save_state(self.run_dir / LAST, state, {**self.identity, "epoch": epoch})

    def resume(self) -> None:
        """Take up the state after the last finished epoch; :meth:`fit` then goes on from there.

        Raises:
            CheckpointError: the checkpoint is of another model or data set, or not readable.
        """
        path = self.run_dir / LAST
        check_identity(path, self.identity)
        state = load_state(path, self.device)  # type: ignore[attr-defined]
        self._load_model_state(state, path)
        for name, optimizer_state in state["optimizers"].items():
            getattr(self, name).load_state_dict(optimizer_state)
        self.start_epoch = state["epoch"] + 1
        self.cur_step = state["cur_step"]
        self.best_valid_score = state["best_valid_score"]
        self.best_valid_result = state["best_valid_result"] or None
        self.train_loss_dict = state["train_loss"]
        self.history = [EpochRecord(**record) for record in state["history"]]
        self.stopped = self.cur_step > self.stopping_step  # type: ignore[attr-defined]
        self._resumed = state

    def _restore_random_state(self, state: dict[str, Any]) -> None:
        python, numpy_state, cpu, cuda = state["random"]
        random.setstate(python)
        np.random.set_state(numpy_state)
        torch.set_rng_state(cpu.cpu())
        if cuda and torch.cuda.is_available():
            torch.cuda.set_rng_state_all([c.cpu() for c in cuda])
        for loader, generator in zip(self._loaders, state["generators"], strict=True):
            loader.generator.set_state(generator.cpu())
        self._resumed = None

    def load_best(self) -> None:
        """Put the best epoch's parameters into the model.

        Raises:
            CheckpointError: the checkpoint is of another model or data set, or not readable.
        """
        path = self.run_dir / BEST
        check_identity(path, self.identity)
        self._load_model_state(load_state(path, self.device), path)  # type: ignore[attr-defined]

    def _load_model_state(self, state: dict[str, Any], path: Path) -> None:
        load_into(self.model, state, path)  # type: ignore[attr-defined]

    def evaluate(
        self,
        eval_data: Any,
        load_best_model: bool = True,
        model_file: Any = None,
        show_progress: bool = False,
    ) -> Any:
        """As RecBole's; the best model comes from our checkpoint, and ``model_file`` (a pickle) is refused."""
        if model_file is not None:
            raise CheckpointError(f"{model_file}: RecBole's checkpoints are pickles and are not read here")
        if load_best_model:
            self.load_best()
        return super().evaluate(eval_data, load_best_model=False, show_progress=show_progress)  # type: ignore[misc]

    @property
    def per_user(self) -> dict[str, NDArray[Any]]:
        """Values by user of the last top-k evaluation, each [users], in the evaluation's order of users."""
        return self.evaluator.per_user


class ClassifyingMixin(RunTrainerMixin):
    """Of classifiers: a part is predicted from the labels known to it, as probabilities where classes count."""

    def evaluate(self, eval_data: Any, *args: Any, **kwargs: Any) -> Any:
        """As a run's, with the known labels of the part that is evaluated."""
        before = self.model.known  # type: ignore[attr-defined]
        self.model.observe(eval_data._dataset.known)  # type: ignore[attr-defined]
        try:
            return super().evaluate(eval_data, *args, **kwargs)
        finally:
            self.model.observe(before)  # type: ignore[attr-defined]

    def _neg_sample_batch_eval(self, batched_data: Any) -> Any:
        if self.config["eval_type"] != EvaluatorType.VALUE:  # type: ignore[attr-defined]
            return super()._neg_sample_batch_eval(batched_data)  # type: ignore[misc]
        interaction, _, positive_u, positive_i = batched_data
        return interaction, self.model.predict_proba(interaction), positive_u, positive_i  # type: ignore[attr-defined]


def load_into(model: Any, state: dict[str, Any], path: Path) -> None:
    """Load a stored model state, refusing one of another shape.

    Raises:
        CheckpointError: names or shapes differ.
    """
    try:
        model.load_state_dict(state["state_dict"])
    except RuntimeError as error:
        detail = " ".join(str(error).split())
        raise CheckpointError(f"{path}: parameters of another shape or model ({detail[:300]})") from error
    model.load_other_parameter(state["other_parameter"])


def check_identity(path: Path, identity: dict[str, Any]) -> None:
    """Refuse a checkpoint of another model or data set.

    Raises:
        CheckpointError: it is another's, or not readable.
    """
    found = read_summary(path)
    for key, expected in identity.items():
        if found.get(key) != expected:
            raise CheckpointError(
                f"{path}: checkpoint has {key} '{found.get(key)}', this run '{expected}'; "
                "expected the same model on the same data: choose the run directory that belongs to it"
            )


def _random_state() -> tuple[Any, ...]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return random.getstate(), np.random.get_state(), torch.get_rng_state(), cuda


def _number(value: Any) -> float | None:
    return float(value) if value is not None and np.isfinite(value) else None


@cache
def run_trainer(base: type, mixin: type = RunTrainerMixin) -> type:
    """``base``, one of RecBole's trainers, as a trainer of runs."""
    return type(f"Run{base.__name__}", (mixin, base), {})


def trainer_for(config: Any) -> type:
    """The trainer class that RecBole would choose for the model, as a trainer of runs."""
    mixin = ClassifyingMixin if getattr(config.model_class, "classifies", False) else RunTrainerMixin
    return run_trainer(get_trainer(config["MODEL_TYPE"], config["model"]), mixin)
