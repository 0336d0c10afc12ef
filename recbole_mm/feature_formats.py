"""Other forms that features come in, read into :class:`~recbole_mm.features.Features`; never unpickled.

``.npz`` (``ids``, ``x``, and for parts of items ``segments`` and ``starts``), ``.npy`` with an id list, ``.npy`` in row
order (MMRec: row = item id), RecBole's text atomic features (``item_id:token<TAB>name:float_seq``). RecBole's text form
is also written, for plain RecBole.
"""

import csv
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recbole_mm.errors import FeatureError
from recbole_mm.features import Features, Segments, open_feature_file
from recbole_mm.files import replacing

FORMS = ".safetensors, .npz (ids, x), .npy with an id list or in MMRec's row order, RecBole's float_seq text"


def read_features(path: Path, ids: Path | None = None) -> Features:
    """Read any form that is known by its suffix; anything else is taken for RecBole's text form.

    Args:
        path: the feature file.
        ids: for ``.npy``, the item tokens by row (``.txt``, ``.csv``, ``.tsv``, ``.json`` or ``.npy``).

    Raises:
        FeatureError: the file is missing, unreadable or of another form.
    """
    if not path.is_file():
        raise FeatureError(f"{path}: no such file; expected one of {FORMS}")
    if ids is not None and path.suffix != ".npy":
        raise FeatureError(f"{path}: an id list goes with a .npy file only; {path.suffix} holds its own ids")
    if path.suffix == ".safetensors":
        return open_feature_file(path)
    if path.suffix == ".npz":
        return _read_npz(path)
    if path.suffix == ".npy":
        vectors = _load_npy(path)
        tokens = _read_ids(ids) if ids else tuple(str(row) for row in range(len(vectors)))
        return Features(vectors, tokens, {}, str(path))
    return _read_recbole_text(path)


def _load_npy(path: Path) -> NDArray[Any]:
    try:
        return _as_float(np.load(path, mmap_mode="r", allow_pickle=False), path)
    except (ValueError, OSError, EOFError) as error:
        raise FeatureError(f"{path}: not a readable .npy array ({error}); expected numbers, no objects") from error


def _as_float(array: NDArray[Any], path: Path) -> NDArray[Any]:
    if array.dtype in (np.float16, np.float32):
        return array
    if not np.issubdtype(array.dtype, np.number) or np.issubdtype(array.dtype, np.complexfloating):
        raise FeatureError(f"{path}: vectors of type {array.dtype}; expected real numbers")
    return array.astype(np.float32)


def _read_npz(path: Path) -> Features:
    try:
        with np.load(path, allow_pickle=False) as archive:
            missing = {"ids", "x"} - set(archive.files)
            if missing:
                raise FeatureError(f"{path}: has {sorted(archive.files)}; expected arrays 'ids' and 'x'")
            segments = None
            if "segments" in archive.files:
                if "starts" not in archive.files or not np.issubdtype(archive["starts"].dtype, np.integer):
                    raise FeatureError(
                        f"{path}: segments without whole numbers 'starts' [N + 1], where each item's begin"
                    )
                segments = Segments(_as_float(archive["segments"], path), archive["starts"].astype(np.int64))
            return Features(_as_float(archive["x"], path), tuple(map(str, archive["ids"])), {}, str(path), segments)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise FeatureError(f"{path}: not a readable .npz ({error}); expected arrays 'ids' and 'x'") from error


def _read_ids(path: Path) -> tuple[str, ...]:
    """Item tokens by row; of a table the first column, without a header that names it."""
    if not path.is_file():
        raise FeatureError(f"{path}: no such id list; expected one item token a row")
    if path.suffix == ".npy":
        try:
            return tuple(map(str, np.load(path, allow_pickle=False)))
        except (ValueError, OSError, EOFError) as error:
            raise FeatureError(f"{path}: not a readable id list ({error})") from error
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix == ".json":
            return tuple(map(str, json.loads(text)))
    except ValueError as error:
        raise FeatureError(f"{path}: not a readable id list ({error})") from error
    lines = [line for line in text.splitlines() if line.strip()]
    if path.suffix in {".csv", ".tsv"}:
        rows = list(csv.reader(lines, delimiter="\t" if path.suffix == ".tsv" else ","))
        start = 1 if rows and rows[0][0].split(":")[0].lower() in {"item_id", "itemid", "asin", "id", "item"} else 0
        return tuple(row[0] for row in rows[start:])
    return tuple(line.strip() for line in lines)


def _read_recbole_text(path: Path) -> Features:
    tokens, rows = [], []
    try:
        with path.open(encoding="utf-8") as file:
            head = [h.split(":") for h in file.readline().rstrip("\n").split("\t")]
            types = [h[-1] for h in head]
            if "token" not in types or "float_seq" not in types:
                raise FeatureError(f"{path}: unknown form; expected one of {FORMS}")
            token, vector = types.index("token"), types.index("float_seq")
            for line in file:
                cells = line.rstrip("\n").split("\t")
                name, numbers = cells[token], cells[vector]
                rows.append(np.array(numbers.split(), dtype=np.float32))
                tokens.append(name)
    except (ValueError, IndexError) as error:
        raise FeatureError(f"{path}: line {len(rows) + 2} is not a token and numbers ({error})") from error
    widths = {len(r) for r in rows}
    if len(widths) != 1:
        raise FeatureError(f"{path}: rows of {sorted(widths)[:4]} numbers; expected one width for all")
    return Features(np.stack(rows), tuple(tokens), {}, str(path))


def write_recbole_text(path: Path, features: Features, *, item_field: str, modality: str) -> None:
    """Write RecBole's text atomic form, so that plain RecBole can use the features too."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(f"{item_field}:token\t{modality}:float_seq\n")
        for token, vector in zip(features.tokens, features.vectors, strict=True):
            # the shortest decimal text that reads back as the same number
            numbers = " ".join(np.format_float_positional(v, unique=True, trim="-") for v in vector)
            file.write(f"{token}\t{numbers}\n")
