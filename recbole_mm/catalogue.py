"""Which class a model name means: ours, RecBole's, or ``package.module:Class``; found without importing torch."""

import importlib
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path

from recbole_mm.errors import ConfigError, nearest

_OURS = ("general_recommender", "classifier")  # folders of recbole_mm/model


@dataclass(frozen=True)
class ModelRef:
    """A model that exists, not imported yet."""

    spec: str  # as the user wrote it
    origin: str  # "recbole_mm", "recbole" or "user"

    @property
    def name(self) -> str:
        """The class's name."""
        return self.spec.rsplit(":", 1)[-1]

    def load(self) -> type:
        """Import the class.

        Raises:
            ConfigError: the user's module or class cannot be imported, or is not a RecBole model.
        """
        if self.origin == "recbole_mm":
            return _attribute(_module_of(self.name), self.name)
        if self.origin == "user":
            return _user_class(self.spec)
        from recbole_mm import compat

        compat.apply()
        from recbole.utils import get_model

        try:
            return _checked(get_model(self.name), self.name)
        except ImportError as error:
            raise ConfigError(
                f"model '{self.name}' of RecBole needs a package that is not installed: {error}"
            ) from error


def our_models() -> list[str]:
    """Names of this package's models: those with a property file."""
    from recbole_mm.resources import shipped

    return sorted(f.stem for f in shipped("properties/model").glob("*.yaml"))


def _module_of(name: str) -> str:
    folder = next(f for f in _OURS if (Path(__file__).parent / "model" / f / f"{name.lower()}.py").is_file())
    return f"recbole_mm.model.{folder}.{name.lower()}"


def recbole_models() -> list[str]:
    """Names of RecBole's models: those with a property file."""
    spec = importlib.util.find_spec("recbole")
    if spec is None or spec.origin is None:
        raise ConfigError("RecBole is not installed; 'pip install recbole==1.2.1'")
    return sorted(f.stem for f in (Path(spec.origin).parent / "properties" / "model").glob("*.yaml"))


def find_model(spec: str) -> ModelRef:
    """Look a model up by name.

    Raises:
        ConfigError: no such model; the nearest name is offered.
    """
    if ":" in spec:
        return ModelRef(spec, "user")
    ours, recboles = our_models(), recbole_models()
    if spec in ours:
        return ModelRef(spec, "recbole_mm")
    if spec in recboles:
        return ModelRef(spec, "recbole")
    raise ConfigError(
        f"unknown model '{spec}'{nearest(spec, [*ours, *recboles])}; expected one of {', '.join(ours)}, a model of "
        "RecBole, or your own as package.module:Class"
    )


def _user_class(spec: str) -> type:
    module, _, name = spec.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # as 'python run_recbole_mm.py' does for the script's own folder
    try:
        return _attribute(module, name)
    except ImportError as error:
        raise ConfigError(
            f"model '{spec}': cannot import '{module}' ({error}); expected package.module:Class"
        ) from error


def _attribute(module: str, name: str) -> type:
    loaded = importlib.import_module(module)
    if not hasattr(loaded, name):
        raise ConfigError(f"module '{module}' has no class '{name}'{nearest(name, dir(loaded))}")
    return _checked(getattr(loaded, name), name)


def _checked(model_class: object, name: str) -> type:
    from recbole.model.abstract_recommender import AbstractRecommender
    from recbole.utils import ModelType

    if not (isinstance(model_class, type) and issubclass(model_class, AbstractRecommender)):
        raise ConfigError(f"'{name}' is not a RecBole model; expected a subclass of AbstractRecommender")
    if getattr(model_class, "type", None) == ModelType.DECISIONTREE:
        raise ConfigError(f"'{name}' cannot be run here: RecBole's decision trees keep their checkpoints as pickles")
    return model_class
