"""What a data set's YAML says of its modalities: a feature file, or one of RecBole's own item fields."""

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, PositiveFloat, ValidationError, model_validator

from recbole_mm.errors import ConfigError, nearest


class ModalitySpec(BaseModel):
    """One entry of ``modalities``: ``{file: ...}``, or ``{field: ..., encoding: multi_hot | bumps}``."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    file: str | None = None  # relative to the data set's folder, or absolute
    ids: str | None = None  # id list of a .npy file
    allow_unknown: bool = False  # the file may cover items that the data set does not have
    field: str | None = None  # a column of the .item file
    encoding: Literal["multi_hot", "bumps"] | None = None
    bump_width: PositiveFloat = 8.0  # distance of the bumps' centres and their width, in the field's unit
    bump_range: tuple[float, float] | None = None  # first and last centre; by default the data's

    @model_validator(mode="after")
    def _one_source(self) -> "ModalitySpec":
        if (self.file is None) == (self.field is None):
            raise ValueError("needs either 'file' or 'field'")
        if (self.field is None) != (self.encoding is None):
            raise ValueError("'field' and 'encoding' (multi_hot or bumps) go together")
        return self


def parse_modalities(registered: object) -> dict[str, ModalitySpec]:
    """The registered modalities by name.

    Raises:
        ConfigError: an entry is malformed.
    """
    if registered is None:
        return {}
    if not isinstance(registered, Mapping):
        raise ConfigError(f"modalities is {registered!r}; expected a mapping of names in the data set's YAML")
    specs = {}
    for name, entry in registered.items():
        if not isinstance(entry, Mapping):
            raise ConfigError(
                f"modalities.{name} is {entry!r}; expected {{file: ...}} or {{field: ..., encoding: ...}}"
            )
        try:
            specs[str(name)] = ModalitySpec(**entry)
        except ValidationError as error:
            raise ConfigError(f"modalities.{name}: {first_problem(error)}; mend it in the data set's YAML") from error
    return specs


def choose_modalities(registered: Mapping[str, object], chosen: object) -> dict[str, object]:
    """Restrict to ``chosen``: a list of names, or the command line's comma-separated text.

    Raises:
        ConfigError: a name is not registered, or none is left.
    """
    names = chosen.split(",") if isinstance(chosen, str) else chosen
    if not isinstance(names, list | tuple):
        raise ConfigError(f"modalities={chosen!r}; expected names such as text,image")
    picked: dict[str, object] = {}
    for name in (str(n).strip() for n in names):
        if name not in registered:
            have = ", ".join(registered) or "none"
            raise ConfigError(f"modality '{name}' is not registered (registered: {have}){nearest(name, registered)}")
        picked[name] = registered[name]
    if not picked:
        raise ConfigError("modalities is empty; expected at least one name")
    return picked


def first_problem(error: ValidationError) -> str:
    """One line of a pydantic error: where, what, and the value that was got."""
    problem = error.errors(include_url=False)[0]
    where = ".".join(map(str, problem["loc"]))
    message = problem["msg"].removeprefix("Value error, ")
    got = f" (got {problem['input']!r})" if problem["type"] != "value_error" else ""
    return f"{where}: {message}{got}" if where else message
