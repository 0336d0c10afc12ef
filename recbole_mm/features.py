"""The feature file: vectors, item tokens and provenance in one memory-mapped ``.safetensors``.

Layout (docs/adr/0001-feature-file.md): tensor ``vectors`` [N, F] float16 or float32, tensor ``tokens`` (the UTF-8
bytes of the N item tokens, newline-separated), and string metadata. Joined to items by token, never by row order.
Where an item's parts are kept as well (frames, chunks of sound, windows of a text), tensors ``segments`` [S, F] and
``starts`` [N + 1] int64: row n's are ``segments[starts[n]:starts[n + 1]]``, in their order.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recbole_mm.errors import FeatureError
from recbole_mm.files import replacing

PROVENANCE_KEYS = (
    "encoder", "checkpoint", "revision", "pooling", "preprocessing",
    "source", "licence", "date", "versions", "coverage",
)  # fmt: skip
_DTYPES = {"F16": np.float16, "F32": np.float32}
_CHUNK_ROWS = 4096


@dataclass(frozen=True)
class Segments:
    """Parts of N items in their order: ``vectors`` [S, F], and where each item's begin, ``starts`` [N + 1]."""

    vectors: NDArray[Any]
    starts: NDArray[np.int64]

    @property
    def counts(self) -> NDArray[np.int64]:
        """How many each item has, [N]."""
        return np.diff(self.starts)

    def take(self, rows: NDArray[np.int64]) -> "Segments":
        """Those of some items, in that order."""
        counts = self.counts[rows]
        starts = np.concatenate([[0], np.cumsum(counts)])
        at = np.arange(starts[-1]) + np.repeat(self.starts[rows] - starts[:-1], counts)
        return Segments(self.vectors[at], starts)

    @classmethod
    def of(cls, parts: Sequence[NDArray[Any]], width: int) -> "Segments":
        """From one array [s_n, F] an item."""
        starts = np.concatenate([[0], np.cumsum([len(part) for part in parts], dtype=np.int64)]).astype(np.int64)
        return cls(np.concatenate([np.zeros((0, width), np.float32), *parts]), starts)


@dataclass(frozen=True)
class Features:
    """Frozen outputs of one encoder: ``vectors`` [N, F], their N item ``tokens``, and where they come from."""

    vectors: NDArray[Any]
    tokens: tuple[str, ...]
    provenance: Mapping[str, str] = field(default_factory=dict)
    name: str = "features"
    segments: Segments | None = None

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or self.vectors.shape[1] == 0:
            raise FeatureError(f"{self.name}: vectors have shape {self.vectors.shape}; expected [items, width]")
        if len(self.tokens) != len(self.vectors):
            raise FeatureError(
                f"{self.name}: {len(self.tokens)} tokens for {len(self.vectors)} vectors; expected one each"
            )
        if self.segments is not None:
            self._check_segments(self.segments)

    def _check_segments(self, segments: Segments) -> None:
        shape, starts = segments.vectors.shape, segments.starts
        if len(shape) != 2 or shape[1] != self.width:
            raise FeatureError(f"{self.name}: segments have shape {shape}; expected [segments, {self.width}]")
        if (
            starts.shape != (len(self.tokens) + 1,)
            or starts[0] != 0
            or starts[-1] != shape[0]
            or (np.diff(starts) < 0).any()
        ):
            raise FeatureError(
                f"{self.name}: starts do not rise from 0 to {shape[0]} segments in {len(self.tokens) + 1} numbers; "
                "expected where each item's begin, and their number at the end"
            )

    @property
    def width(self) -> int:
        """F, the length of a vector."""
        return int(self.vectors.shape[1])

    def check_values(self) -> None:
        """Refuse NaN and infinite values, naming the first item that has one.

        Raises:
            FeatureError: a value is NaN or infinite.
        """
        bad = _first_bad(self.vectors)
        where = "the vector"
        if bad is None and self.segments is not None:
            at = _first_bad(self.segments.vectors)
            bad = None if at is None else int(np.searchsorted(self.segments.starts, at, side="right")) - 1
            where = "a segment"
        if bad is not None:
            raise FeatureError(
                f"{self.name}: NaN or infinite value in {where} of item '{self.tokens[bad]}'; "
                "expected finite numbers: extract it again, or leave the item out (it will be masked)"
            )

    def check_tokens(self) -> None:
        """Refuse duplicate tokens, naming the first.

        Raises:
            FeatureError: an item token occurs twice.
        """
        if len(set(self.tokens)) == len(self.tokens):
            return
        seen: set[str] = set()
        twice = next(t for t in self.tokens if t in seen or seen.add(t))  # type: ignore[func-returns-value]
        raise FeatureError(
            f"{self.name}: item token '{twice}' occurs more than once; expected one vector an item: "
            "remove the surplus rows"
        )


def _finite_rows(block: NDArray[Any]) -> NDArray[np.bool_]:
    """True where a row has finite values only, [n]; float16 by its exponent bits, which is far faster."""
    if block.dtype == np.float16:
        bits = np.ascontiguousarray(block).view(np.uint16)
        return np.asarray(((bits & 0x7C00) != 0x7C00).all(axis=1))
    return np.asarray(np.isfinite(block).all(axis=1))


def _first_bad(vectors: NDArray[Any]) -> int | None:
    """The first row with a NaN or infinite value."""
    for start in range(0, len(vectors), _CHUNK_ROWS):
        bad = ~_finite_rows(vectors[start : start + _CHUNK_ROWS])
        if bad.any():
            return start + int(np.argmax(bad))
    return None


@dataclass(frozen=True)
class AlignedFeatures:
    """Features joined to RecBole's internal item ids: ``rows`` [I] is the vector's row, or -1 without one."""

    features: Features
    rows: NDArray[np.int64]

    @property
    def mask(self) -> NDArray[np.bool_]:
        """True where the item has a vector, [I]; id 0 is padding and never has one."""
        return np.asarray(self.rows >= 0)

    @property
    def width(self) -> int:
        """F, the length of a vector."""
        return self.features.width

    def segments(self) -> tuple[Segments, NDArray[np.int64], NDArray[np.int64]] | None:
        """The file's segments, and by item id the first row [I] and the number [I] of its own; None if it has none.

        They stay memory-mapped; an item without a vector has none.

        Raises:
            FeatureError: a value is NaN or infinite.
        """
        own = self.features.segments
        if own is None:
            return None
        self.features.check_values()
        return own, np.where(self.mask, own.starts[self.rows], 0), np.where(self.mask, own.counts[self.rows], 0)

    def matrix(self) -> NDArray[Any]:
        """Vectors by item id, [I, F] in the file's dtype; an item without a vector is zero here, and masked.

        Raises:
            FeatureError: a value that is used is NaN or infinite.
        """
        out = np.zeros((len(self.rows), self.width), dtype=self.features.vectors.dtype)
        present = np.flatnonzero(self.rows >= 0)
        for start in range(0, len(present), _CHUNK_ROWS):
            ids = present[start : start + _CHUNK_ROWS]
            block = self.features.vectors[self.rows[ids]]
            if not _finite_rows(block).all():
                self.features.check_values()
            out[ids] = block
        return out


def align(features: Features, item_tokens: Sequence[str]) -> AlignedFeatures:
    """Join by token. ``item_tokens`` [I] are the tokens by internal id; entry 0 is padding and gets no vector.

    Raises:
        FeatureError: a token occurs twice, or no item has a feature.
    """
    features.check_tokens()
    row_of = dict(zip(features.tokens, range(len(features.tokens)), strict=True))
    rows = np.fromiter((row_of.get(t, -1) for t in item_tokens), dtype=np.int64, count=len(item_tokens))
    if len(rows):
        rows[0] = -1
    if not (rows >= 0).any():
        example = f"; the file has '{features.tokens[0]}'" if features.tokens else ""
        wanted = f", the data set '{item_tokens[1]}'" if len(item_tokens) > 1 else ""
        raise FeatureError(
            f"{features.name}: no item of the data set has a feature{example}{wanted}; expected the item tokens "
            "of the .inter file: check that the file belongs to this data set"
        )
    return AlignedFeatures(features, rows)


def open_feature_file(path: Path) -> Features:
    """Open ``.safetensors`` memory-mapped: only header and tokens are read now, vectors when they are used.

    Raises:
        FeatureError: the file is missing, truncated or not in this layout.
    """
    header, start = _read_header(path)
    for tensor in ("vectors", "tokens"):
        if tensor not in header:
            raise FeatureError(f"{path}: no tensor '{tensor}'; expected 'vectors' [N, F] and 'tokens'")
    lo, hi = header["tokens"]["data_offsets"]
    raw = np.memmap(path, dtype=np.uint8, mode="r", offset=start + lo, shape=(hi - lo,)) if hi > lo else b""
    try:
        text = bytes(raw).decode("utf-8")
    except UnicodeDecodeError as error:
        raise FeatureError(f"{path}: tokens are not UTF-8 ({error.reason}); expected newline-separated text") from error
    tokens = tuple(text.split("\n")) if text else ()
    segments = None
    if "segments" in header:
        segments = Segments(_matrix(path, header, "segments", start), _starts(path, header, start))
    vectors = _matrix(path, header, "vectors", start)
    return Features(vectors, tokens, dict(header.get("__metadata__") or {}), str(path), segments)


def _matrix(path: Path, header: dict[str, Any], name: str, start: int) -> NDArray[Any]:
    """A tensor of vectors, memory-mapped."""
    tensor = header[name]
    if tensor["dtype"] not in _DTYPES or len(tensor["shape"]) != 2:
        raise FeatureError(
            f"{path}: {name} are {tensor['dtype']} {tensor['shape']}; expected F16 or F32 of shape [N, F]"
        )
    dtype, shape = _DTYPES[tensor["dtype"]], tuple(tensor["shape"])
    if not shape[0]:
        return np.zeros(shape, dtype)
    return np.memmap(path, dtype=dtype, mode="r", offset=start + tensor["data_offsets"][0], shape=shape)


def _starts(path: Path, header: dict[str, Any], start: int) -> NDArray[np.int64]:
    tensor = header.get("starts", {"dtype": "none", "shape": []})
    if tensor["dtype"] != "I64" or len(tensor["shape"]) != 1 or not tensor["shape"][0]:
        raise FeatureError(
            f"{path}: starts of the segments are {tensor['dtype']} {tensor['shape']}; expected I64 of shape [N + 1]"
        )
    offset = start + tensor["data_offsets"][0]
    return np.fromfile(path, dtype=np.int64, count=tensor["shape"][0], offset=offset)


def _read_header(path: Path) -> tuple[dict[str, Any], int]:
    """The safetensors header and the offset of the data; the library's reader would copy the tensors."""
    if not path.is_file():
        raise FeatureError(f"{path}: no such feature file; register it with 'recbole-mm features add'")
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or 8 + length > size:
            raise FeatureError(
                f"{path}: {size} bytes is too short for a .safetensors file; it is truncated or another format"
            )
        try:
            header = json.loads(file.read(length))
        except ValueError as error:
            raise FeatureError(f"{path}: no readable header ({error}); expected a .safetensors file") from error
    end = max((t["data_offsets"][1] for n, t in header.items() if n != "__metadata__"), default=0)
    if 8 + length + end != size:
        raise FeatureError(
            f"{path}: {size} bytes, but its header announces {8 + length + end}; "
            "it is truncated: copy or extract it again"
        )
    return header, 8 + length


def write_feature_file(path: Path, features: Features) -> None:
    """Write whole or not at all; ``coverage`` is stated if the provenance does not.

    Raises:
        FeatureError: duplicate tokens, a token with a newline, NaN or infinite values.
        OSError: the place cannot be written to.
    """
    from safetensors.numpy import save_file

    features.check_tokens()
    features.check_values()
    if any("\n" in t or not t for t in features.tokens):
        raise FeatureError(f"{features.name}: an item token is empty or holds a newline; expected a word a token")
    dtype = np.float16 if features.vectors.dtype == np.float16 else np.float32
    tokens = np.frombuffer("\n".join(features.tokens).encode("utf-8"), dtype=np.uint8)
    metadata = {"coverage": f"{len(features.tokens)} items", **features.provenance}
    tensors = {"vectors": np.ascontiguousarray(features.vectors, dtype=dtype), "tokens": tokens}
    if features.segments is not None:
        tensors["segments"] = np.ascontiguousarray(features.segments.vectors, dtype=dtype)
        tensors["starts"] = np.ascontiguousarray(features.segments.starts, dtype=np.int64)
    with replacing(path) as temporary:
        save_file(
            tensors,
            temporary,
            metadata={str(k): str(v) for k, v in metadata.items()},
        )
        _sort_header(temporary)


def _sort_header(path: Path) -> None:
    """Put the header's keys in order: the library shuffles them, and equal features would differ in their bytes."""
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        text = json.dumps(header, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
        if len(text) <= length:  # never longer: the same keys and values, without the library's padding
            file.seek(8)
            file.write(text.ljust(length))
