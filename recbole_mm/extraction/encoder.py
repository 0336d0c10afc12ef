"""What every encoder has: a card that travels with its weights, ``prepare`` (a worker's part) and ``forward``.

A source (a text, or the path of a file) is prepared into units: windows of a text, clips of a video, chunks of a
sound. The vector of a source is the weighted mean of its units' vectors.
"""

import hashlib
import importlib.metadata
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from recbole_mm.errors import ExtractionError
from recbole_mm.features import Segments

Source = str | Path
LOST = "the encoder answers NaN or infinity"


class ItemError(Exception):
    """A source that cannot be encoded: it is listed with its reason, and the rest goes on."""


class NothingToEncode(ItemError):  # noqa: N818
    """An empty text, a silent track: the item is masked, and nothing is wrong."""


@dataclass(frozen=True)
class Card:
    """Frozen facts of an encoder, kept with its weights and written into every feature file."""

    modality: str
    encoder: str  # architecture, depth, width
    checkpoint: str  # name on a hub, or local path
    revision: str  # of the hub, or the digest of local weights
    licence: str
    width: int  # F, the length of a vector
    pooling: str
    preprocessing: str
    settings: Mapping[str, Any]  # what builds the encoder again, beside the checkpoint
    sample_rate_hz: int | None = None
    frames: int | None = None
    libraries: tuple[str, ...] = ("torch",)
    quantised: str = ""  # of a network in 8-bit integers: its digest, and how much of it is

    def versions(self) -> str:
        """Versions of the libraries that the vectors depend on."""
        return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in self.libraries)

    def provenance(self) -> dict[str, str]:
        """As the feature file's metadata."""
        facts = {
            "encoder": self.encoder, "checkpoint": self.checkpoint, "revision": self.revision,
            "licence": self.licence, "pooling": self.pooling, "preprocessing": self.preprocessing,
            "versions": self.versions(), "settings": json.dumps(dict(self.settings), sort_keys=True),
        }  # fmt: skip
        if self.sample_rate_hz is not None:
            facts["sample_rate_hz"] = str(self.sample_rate_hz)
        if self.frames is not None:
            facts["frames"] = str(self.frames)
        if self.quantised:
            facts["quantised"] = self.quantised
        return facts

    def signature(self) -> str:
        """A digest of all that the vectors depend on but their source; a moved checkpoint keeps it."""
        facts = self.provenance()
        del facts["checkpoint"], facts["licence"]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Unit:
    """One input of the model; ``size`` sorts it into a batch (tokens, samples), ``weight`` counts in the mean."""

    data: Any
    size: int = 0
    weight: float = 1.0


@dataclass(frozen=True)
class Prepared:
    """The units of one source, and what a person should know of it though it is encoded."""

    units: tuple[Unit, ...]
    note: str = ""


@dataclass(frozen=True)
class Encoded:
    """Vectors [N, F] float32, ``mask`` [N] (False: no vector, the row is zero), and reasons or notes by row."""

    vectors: NDArray[np.float32]
    mask: NDArray[np.bool_]
    reasons: dict[int, str] = field(default_factory=dict)


class Encoder(ABC):
    """A frozen model with its preprocessing; see the module's docstring."""

    batch_size = 32  # units
    block_size = 256  # sources that are sorted, encoded and saved together
    equal_sizes = False  # only units of one size may stand in a batch
    precisions: tuple[str, ...] = ("float32", "bfloat16")

    def __init__(self, card: Card, model: torch.nn.Module, *, device: str = "cpu", precision: str = "float32") -> None:
        if precision not in self.precisions:
            raise ExtractionError(f"precision '{precision}'; expected {' or '.join(self.precisions)}")
        self.card = card
        self.device = torch.device(device)
        self.precision = precision
        self.dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
        self.model = model.eval().requires_grad_(False).to(device=self.device, dtype=self.dtype)

    @property
    def modality(self) -> str:
        """What it encodes: text, image, video or audio."""
        return self.card.modality

    @property
    def width(self) -> int:
        """F, the length of a vector."""
        return self.card.width

    @abstractmethod
    def prepare(self, source: Source) -> Prepared:
        """Read and preprocess one source; called from several threads at a time.

        Raises:
            ItemError: it cannot be encoded.
        """

    @abstractmethod
    def forward(self, units: Sequence[Unit]) -> torch.Tensor:
        """Vectors of a batch, [B, F]."""

    def finish(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """What is done with the mean of a source's units, [N, F] to [N, F]."""
        return vectors

    def encode_prepared(self, prepared: Sequence[Prepared]) -> NDArray[np.float32]:
        """One vector a source, [N, F]."""
        return self.encode_parts(prepared, 0)[0]

    def encode_parts(self, prepared: Sequence[Prepared], most: int) -> tuple[NDArray[np.float32], Segments]:
        """One vector a source [N, F], and its segments: units sorted by size, encoded in batches, averaged.

        Args:
            prepared: the sources.
            most: segments of a source; of more units, neighbours are averaged. 0: none are kept.
        """
        owners = []
        counts = [min(most, len(source.units)) for source in prepared]
        starts = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64)
        for row, source in enumerate(prepared):
            n = len(source.units)
            owners += [(row, starts[row] + at * counts[row] // n, unit) for at, unit in enumerate(source.units)]
        owners.sort(key=lambda owner: -owner[2].size)  # stable: the same sources give the same batches
        sums, weights = np.zeros((len(prepared), self.width)), np.zeros((len(prepared), 1))
        parts, part_weights = np.zeros((starts[-1], self.width)), np.zeros((starts[-1], 1))
        for batch in self._batches(owners):
            with torch.inference_mode():
                vectors = self.forward([unit for _, _, unit in batch]).float().cpu().numpy()
            for (row, part, unit), vector in zip(batch, vectors, strict=True):
                sums[row] += unit.weight * vector
                weights[row] += unit.weight
                if most:
                    parts[part] += unit.weight * vector
                    part_weights[part] += unit.weight
        whole, split = (a / w for a, w in ((sums, weights), (parts, part_weights)))
        return self.finish(whole.astype(np.float32)), Segments(self.finish(split.astype(np.float32)), starts)

    def _batches(self, owners: list[tuple[int, int, Unit]]) -> list[list[tuple[int, int, Unit]]]:
        batches: list[list[tuple[int, int, Unit]]] = []
        for owner in owners:
            full = not batches or len(batches[-1]) == self.batch_size
            if full or (self.equal_sizes and batches[-1][0][2].size != owner[2].size):
                batches.append([])
            batches[-1].append(owner)
        return batches

    def encode(self, sources: Sequence[Source]) -> Encoded:
        """Encode a few sources at once; one that fails has a reason instead of a vector."""
        reasons: dict[int, str] = {}
        prepared: list[Prepared] = []
        rows: list[int] = []
        for row, source in enumerate(sources):
            try:
                prepared.append(self.prepare(source))
                rows.append(row)
                if prepared[-1].note:
                    reasons[row] = prepared[-1].note
            except ItemError as error:
                reasons[row] = str(error)
        vectors = np.zeros((len(sources), self.width), dtype=np.float32)
        mask = np.zeros(len(sources), dtype=bool)
        if rows:
            vectors[rows] = self.encode_prepared(prepared)
            mask[rows] = np.isfinite(vectors[rows]).all(axis=1)
        for row in rows:
            if not mask[row]:
                vectors[row], reasons[row] = 0, LOST
        return Encoded(vectors, mask, reasons)
