"""A run's ``serving`` folder: what recommending needs of it, as memory-mapped arrays and JSON.

Made from the run once (RecBole and torch load for that, and never again), opened in milliseconds, and shared between
processes by the page cache. Nothing in it is a pickle. A folder that belongs to another checkpoint is made anew.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from recbole_mm import run_directory
from recbole_mm.errors import CheckpointError
from recbole_mm.modality import first_problem
from recbole_mm.model.scoring import Array, ScoringParts

FOLDER, ADDED = "serving", "added"
FORMAT = "recbole_mm.serving.1"
_MANIFEST, _CATALOGUE, _USERS = "serving.json", "catalogue.json", "users.json"
_CHECKPOINT = "model.safetensors"
_ARRAYS = ("items", "bias", "users", "pooling", "item_item")
_BY_NAME = ("mlp", "item_parts", "bias_parts", "item_item_parts")


class ArraySpec(BaseModel):
    """What an array must be, so that another file in its place is noticed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dtype: Literal["float16", "float32", "int32", "int64", "bool"]
    shape: tuple[int, ...]


class Manifest(BaseModel):
    """``serving.json``."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    format: str
    source: str  # digest of checkpoint, configuration and added items
    model: str
    dataset: str
    matching: Literal["dot", "cosine", "mlp"]
    temperature: float
    rating: dict[Literal["low", "high", "mean", "power"], float]
    new_users: bool  # whether the model has parts that score people whom it was not trained on
    fold_in_overlap: float | None
    modalities: tuple[str, ...]
    arrays: dict[str, ArraySpec]


class Catalogue(BaseModel):
    """``catalogue.json``: the items by internal id; entry 0 is padding."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tokens: tuple[str, ...]
    titles: tuple[str, ...]
    years: tuple[int | None, ...]
    genres: tuple[tuple[str, ...], ...]


class Store:
    """An opened ``serving`` folder."""

    def __init__(self, run_dir: Path, manifest: Manifest, catalogue: Catalogue, users: tuple[str, ...]) -> None:
        self.run_dir = run_dir
        self.manifest = manifest
        self.catalogue = catalogue
        self.users = users

    def array(self, name: str) -> Array | None:
        """A memory-mapped array, or None if the model has no such part.

        Raises:
            CheckpointError: the file is not what the manifest announces.
        """
        spec = self.manifest.arrays.get(name)
        if spec is None:
            return None
        path = self.run_dir / FOLDER / f"{name}.npy"
        try:
            found = np.load(path, mmap_mode="r" if 0 not in spec.shape else None, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{path}: not a readable array ({error}); {_rebuild(self.run_dir)}") from error
        if found.shape != spec.shape or str(found.dtype) != spec.dtype:
            raise CheckpointError(
                f"{path}: {found.dtype} {found.shape}; expected {spec.dtype} {spec.shape}; {_rebuild(self.run_dir)}"
            )
        return np.asarray(found)

    def needed(self, name: str) -> Array:
        """As :meth:`array`, of a part that every model has.

        Raises:
            CheckpointError: it is not there.
        """
        found = self.array(name)
        if found is None:
            raise CheckpointError(f"{self.run_dir / FOLDER}: no array '{name}'; {_rebuild(self.run_dir)}")
        return found

    def parts(self) -> ScoringParts:
        """The model's arrays."""
        manifest = self.manifest
        by_name: dict[str, dict[str, Array]] = {kind: {} for kind in _BY_NAME}
        for name in manifest.arrays:
            kind, _, key = name.partition(".")
            if kind in by_name:
                by_name[kind][key] = self.needed(name)
        return ScoringParts(
            self.array("items"), self.array("bias"), self.array("users"), self.array("pooling"),
            self.array("item_item"), manifest.matching, manifest.temperature, by_name["mlp"],
            manifest.rating["power"], by_name["item_parts"], by_name["bias_parts"], by_name["item_item_parts"],
        )  # fmt: skip


def source_digest(run_dir: Path) -> str:
    """Tells whether a ``serving`` folder belongs to the run as it is now.

    Raises:
        CheckpointError: the run is not finished, or not readable.
    """
    sha = hashlib.sha256(FORMAT.encode())
    for name in (run_directory.CONFIG, run_directory.RESULT, _CHECKPOINT):
        path = run_dir / name
        if not path.is_file():
            raise CheckpointError(f"{run_dir}: no {name}; expected the directory of a finished run")
        sha.update(_digest(path))
    for path in sorted((run_dir / ADDED).glob("*")):
        sha.update(path.name.encode() + _digest(path))
    return sha.hexdigest()[:32]


def _digest(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error


def write(run_dir: Path, manifest: Mapping[str, Any], catalogue: Catalogue, users: list[str],
          parts: ScoringParts | None, extra: Mapping[str, Array | None]) -> None:  # fmt: skip
    """Write the folder whole or not at all.

    Raises:
        CheckpointError: the place cannot be written to.
    """
    arrays = {name: array for name, array in extra.items() if array is not None}
    if parts is not None:
        given = {field.name: getattr(parts, field.name) for field in fields(parts)}
        arrays |= {name: given[name] for name in _ARRAYS if given[name] is not None}
        arrays |= {f"{kind}.{key}": array for kind in _BY_NAME for key, array in given[kind].items()}
    specs = {name: {"dtype": str(array.dtype), "shape": array.shape} for name, array in arrays.items()}
    whole = Manifest(format=FORMAT, arrays=specs, **manifest)
    try:
        with tempfile.TemporaryDirectory(dir=run_dir, prefix=f".{FOLDER}.") as folder:
            new = Path(folder) / FOLDER
            new.mkdir()
            for name, array in arrays.items():
                np.save(new / f"{name}.npy", np.ascontiguousarray(array), allow_pickle=False)
            (new / _CATALOGUE).write_text(catalogue.model_dump_json(), encoding="utf-8")
            (new / _USERS).write_text(json.dumps(users, ensure_ascii=False), encoding="utf-8")
            (new / _MANIFEST).write_text(whole.model_dump_json(indent=2) + "\n", encoding="utf-8")
            shutil.rmtree(run_dir / FOLDER, ignore_errors=True)
            new.replace(run_dir / FOLDER)
    except OSError as error:
        raise CheckpointError(f"{run_dir / FOLDER}: cannot be written ({error.strerror})") from error


def read(run_dir: Path) -> Store | None:
    """Open the folder; None if there is none, or it was made by another version or from another checkpoint.

    Raises:
        CheckpointError: it is there but was tampered with, or the run is not finished.
    """
    folder, digest = run_dir / FOLDER, source_digest(run_dir)
    if not (folder / _MANIFEST).is_file():
        return None
    found = _json(folder / _MANIFEST, run_dir)
    if not isinstance(found, dict) or found.get("format") != FORMAT or found.get("source") != digest:
        return None
    try:
        manifest = Manifest.model_validate(found)
        catalogue = Catalogue.model_validate(_json(folder / _CATALOGUE, run_dir))
    except ValidationError as error:
        raise CheckpointError(f"{folder}: {first_problem(error)}; {_rebuild(run_dir)}") from error
    users = _json(folder / _USERS, run_dir)
    n_items = len(catalogue.tokens)
    lengths = {n_items, len(catalogue.titles), len(catalogue.years), len(catalogue.genres)}
    if not isinstance(users, list) or len(lengths) > 1 or manifest.arrays["popularity"].shape != (n_items,):
        raise CheckpointError(f"{folder}: items and arrays do not belong together; {_rebuild(run_dir)}")
    return Store(run_dir, manifest, catalogue, tuple(map(str, users)))


def _json(path: Path, run_dir: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not readable ({error}); {_rebuild(run_dir)}") from error


def _rebuild(run_dir: Path) -> str:
    return f"remove {run_dir / FOLDER} and it is made anew from the run"
