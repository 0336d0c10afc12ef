"""RecBole's ``Config`` without ``eval`` and without silent keys, and typed views of it for models."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from recbole_mm import compat
from recbole_mm.errors import ConfigError, nearest
from recbole_mm.modality import choose_modalities, first_problem, parse_modalities
from recbole_mm.resources import shipped

compat.apply()

from recbole.config import Config as RecBoleConfig  # noqa: E402
from recbole.utils import (  # noqa: E402
    ModelType,
    dataset_arguments,
    evaluation_arguments,
    general_arguments,
    training_arguments,
)

import recbole_mm.metrics  # noqa: E402, F401 - registers them before a configuration names them

# Read by RecBole's code, but named in none of its argument lists or property files.
_RECBOLE_KEYS = {
    "model", "dataset", "config_files", "encoding", "double_tower", "train_rec_step", "train_kg_step", "loss_type",
    "wandb_project", "worker", "shuffle", "use_gpu", "enable_amp", "enable_scaler", "transform", "require_pow",
    "neg_sampling", "training_neg_sample_num", "reg_weight", "embedding_size", "checkpoint_dir", "numerical_features",
    "discretization", "kg_reverse_r", "entity_kg_num_interval", "relation_kg_num_interval", "gpu_id",
}  # fmt: skip
# RecBole would pickle to, or unpickle from, the files that these name.
_PICKLING_KEYS = ("save_dataset", "dataset_save_path", "save_dataloaders", "dataloaders_save_path")
_RANKING_TYPES = {ModelType.GENERAL, ModelType.TRADITIONAL, ModelType.KNOWLEDGE, ModelType.SEQUENTIAL}


class _Loader(yaml.SafeLoader):
    """YAML as RecBole reads it (``1e-3`` is a number), but safe."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:(?:\d[\d_]*)(?:\.[\d_]*)?|\.[\d_]+)(?:[eE][-+]?\d+)$"),
    list("-+0123456789."),
)


def parse_value(text: str) -> Any:
    """A command-line value: YAML, with Python's ``None``; text that is not YAML stays text."""
    if text == "None":
        return None
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError:
        return text


def read_yaml(path: Path) -> dict[str, Any]:
    """A mapping from a YAML file.

    Raises:
        ConfigError: the file is missing, not YAML, or not a mapping.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); expected a YAML file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not YAML ({' '.join(str(error).split())})") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: holds {type(content).__name__}; expected a mapping of parameters")
    return content


def modalities_file(data_path: Path, dataset: str) -> Path:
    """Where ``recbole-mm features add`` registers features: beside the data set's atomic files."""
    return data_path / dataset / f"{dataset}.modalities.yaml"


def dataset_file(data_path: Path, dataset: str) -> Path:
    """The YAML that ``recbole-mm import`` writes beside a data set's atomic files: parameters, as in ``properties``.

    What stands under ``ranking`` holds for models that rank, not for those that classify.
    """
    return data_path / dataset / f"{dataset}.yaml"


class Config(RecBoleConfig):  # type: ignore[misc]
    """RecBole's Config, read from RecBole's own property files, then ours, then files, then overrides.

    Args:
        model_class: the model; RecBole's or ours.
        dataset: name of the data set.
        config_files: YAML files, later ones win.
        overrides: parameters that win over all files.
        strict: refuse keys that nobody declares; off for models from elsewhere, whose keys are unknown.

    Raises:
        ConfigError: an unknown key (with the nearest name), a value of the wrong type, a malformed file.
    """

    def __init__(
        self,
        model_class: type,
        dataset: str,
        config_files: Sequence[Path] = (),
        overrides: Mapping[str, Any] | None = None,
        *,
        strict: bool = True,
    ) -> None:
        self._strict = strict
        try:
            super().__init__(model_class, dataset, [Path(f) for f in config_files], dict(overrides or {}))
        except (ValueError, TypeError, KeyError, AttributeError, NotImplementedError, RuntimeError) as error:
            raise ConfigError(f"configuration: {error}") from error
        if hasattr(model_class, "configure"):
            model_class.configure(self)

    def compatibility_settings(self) -> None:
        """As RecBole: names that numpy dropped, which RecBole's code still uses."""
        super().compatibility_settings()

    def _build_yaml_loader(self) -> type[yaml.SafeLoader]:
        return _Loader

    def _convert_config_dict(self, config_dict: dict[str, Any]) -> dict[str, Any]:
        return config_dict  # RecBole evaluates text here; values come parsed

    def _load_config_files(self, file_list: Sequence[Path] | None) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        for file in file_list or ():
            merged.update(read_yaml(file))
        return merged

    def _load_cmd_line(self) -> dict[str, Any]:
        return {}  # the command line is parsed once, by the CLI

    def _load_internal_config_dict(self, model: str, model_class: type, dataset: str) -> None:
        super()._load_internal_config_dict(model, model_class, dataset)
        layers = [shipped("properties/overall.yaml")]
        classifies = getattr(model_class, "classifies", False)
        ranks = model_class.type in _RANKING_TYPES or (classifies and self._asks_to_rank())  # type: ignore[attr-defined]
        if classifies:
            layers.append(shipped("properties/classification.yaml"))
        if ranks:
            layers.append(shipped("properties/ranking.yaml"))
        layers += [shipped(f"properties/model/{model}.yaml"), shipped(f"properties/dataset/{dataset}.yaml")]
        layers += [_beside(model_class)]
        data_path = Path(self.external_config_dict.get("data_path", self.internal_config_dict["data_path"]))
        layers += [dataset_file(data_path, dataset)]
        for layer in layers:
            if layer.is_file():
                self._add_layer(read_yaml(layer), ranks=ranks)
        added = modalities_file(data_path, dataset)
        if added.is_file():
            registered = dict(self.internal_config_dict.get("modalities") or {})
            registered.update(read_yaml(added).get("modalities") or {})
            self.internal_config_dict["modalities"] = registered
        self._check_external()

    def _asks_to_rank(self) -> bool:
        """Whether a classifier is to be evaluated as a ranking (``eval_args.mode: full``)."""
        given = self.external_config_dict.get("eval_args")
        mode = given.get("mode") if isinstance(given, Mapping) else None
        return "full" in (mode.values() if isinstance(mode, Mapping) else [mode])

    def _add_layer(self, content: dict[str, Any], *, ranks: bool) -> None:
        for_ranking = content.pop("ranking", None) or {}
        self.internal_config_dict.update({**content, **(for_ranking if ranks else {})})

    def _check_external(self) -> None:
        known = known_keys() | set(self.internal_config_dict)
        for key, value in self.external_config_dict.items():
            if key not in known and (self._strict or nearest(key, known)):
                raise ConfigError(
                    f"unknown parameter '{key}'{nearest(key, known)}; parameters of {self.model} and of RecBole are "
                    "listed in properties/ and RecBole's documentation"
                )
            _check_type(key, value, self.internal_config_dict.get(key))
        for key in _PICKLING_KEYS:
            if self.external_config_dict.get(key):
                raise ConfigError(f"{key} is not supported: RecBole pickles there, and nothing is unpickled here")

    def _get_final_config_dict(self) -> dict[str, Any]:
        final: dict[str, Any] = super()._get_final_config_dict()
        # a mapping registers (and replaces, as every RecBole parameter does); a list or text chooses among them
        registered: dict[str, Any] = dict(self.internal_config_dict.get("modalities") or {})
        chosen = None
        for layer in (self.file_config_dict, self.variable_config_dict):
            given = layer.get("modalities")
            if isinstance(given, Mapping):
                registered, chosen = dict(given), None
            elif given is not None:
                chosen = given
        if chosen is not None:
            registered = choose_modalities(registered, chosen)
        parse_modalities(registered)
        final["modalities"] = registered
        fields = final.get("modality_fields") or []
        final["modality_fields"] = list(choose_modalities(registered, fields)) if fields else []
        return final


def known_keys() -> set[str]:
    """Every parameter that RecBole declares outside a model's own property file."""
    return {
        *general_arguments, *training_arguments, *evaluation_arguments, *dataset_arguments, *_RECBOLE_KEYS,
    }  # fmt: skip


def _beside(model_class: type) -> Path:
    """``<Class>.yaml`` beside the module of a user's own model: its defaults, if the file is there."""
    import inspect

    return Path(inspect.getfile(model_class)).with_name(f"{model_class.__name__}.yaml")


def _check_type(key: str, value: Any, default: Any) -> None:
    expected: tuple[type, ...] | None = None
    if isinstance(default, bool):
        expected, name = (bool,), "true or false"
    elif isinstance(default, int):
        expected, name = (int,), "a whole number"
    elif isinstance(default, float):
        expected, name = (int, float), "a number"
    if expected is None or value is None:
        return
    if not isinstance(value, expected) or (isinstance(value, bool) and bool not in expected):
        raise ConfigError(f"{key}={value!r}; expected {name} (default {default!r})")


class ModelConfig(BaseModel):
    """Base of every model's hyper-parameters; defaults live in ``properties/model`` only."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def from_recbole(cls, config: RecBoleConfig) -> Self:
        """Read exactly the declared fields; RecBole answers None for an absent key.

        Raises:
            ConfigError: a field has no value, or one out of its range.
        """
        missing = sorted(name for name in cls.model_fields if name not in config)
        if missing:
            raise ConfigError(f"{cls.__name__}: no value for {missing}; set them in the model's YAML")
        try:
            return cls(**{name: config[name] for name in cls.model_fields})
        except ValidationError as error:
            raise ConfigError(f"{first_problem(error)}; mend it in properties/model or on the command line") from error
