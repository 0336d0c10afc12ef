"""Vectors by the content they were made from, kept block by block: what a killed run had finished is not lost.

``<folder>/<signature>/`` holds one feature file a block, whose tokens are content keys. Blocks are written whole or
not at all, so a run may be killed at any moment, and several processes may write side by side.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from recbole_mm.errors import ExtractionError, FeatureError
from recbole_mm.features import Features, Segments, open_feature_file, write_feature_file
from recbole_mm.files import write_text


def content_key(source: str | Path) -> str:
    """The digest of a text, or of a file's bytes.

    Raises:
        OSError: the file cannot be read.
    """
    if isinstance(source, str):
        return hashlib.blake2b(source.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    with source.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


FAILED, EMPTY, NOTE = "failed", "empty", "encoded"


@dataclass(frozen=True)
class Outcome:
    """What a person should know of a source: it failed, it is empty, or it is encoded with a note."""

    kind: str
    reason: str


@dataclass
class Known:
    """What a cache holds: the file and row of each key's vector, and outcomes by key."""

    rows: dict[str, tuple[Path, int]] = field(default_factory=dict)
    outcomes: dict[str, Outcome] = field(default_factory=dict)


class Cache:
    """The blocks of one encoder with one set of settings."""

    def __init__(self, folder: Path, signature: str, width: int, segments: int = 0) -> None:
        self.folder = folder / (f"{signature}-segments{segments}" if segments else signature)
        self.width, self.segments = width, segments  # at most so many segments of a source are kept

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other runs out, and sweep away what killed ones left half-written.

        Raises:
            ExtractionError: another run of the same extraction is under way.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / "lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise ExtractionError(f"{self.folder}: another run of the same extraction is under way") from None
        with lock:
            for leftover in self.folder.glob(".*"):
                leftover.unlink()
            yield

    def started(self) -> str:
        """The day on which the unfinished run began, so that a resumed one writes the same."""
        path = self.folder / "started"
        if not path.is_file():
            write_text(path, datetime.now(UTC).date().isoformat())
        return path.read_text(encoding="utf-8")

    def finished(self) -> None:
        """Forget the day: the next run has its own."""
        (self.folder / "started").unlink(missing_ok=True)

    def write(
        self,
        keys: Sequence[str],
        vectors: NDArray[np.float32],
        outcomes: Mapping[str, Outcome],
        segments: Segments | None = None,
    ) -> None:
        """Save a block: vectors [n, F] of ``keys`` with their segments, and the outcomes of its sources."""
        said = {key: [outcome.kind, outcome.reason] for key, outcome in sorted(outcomes.items())}
        name = hashlib.sha256("\n".join([*keys, "", *said]).encode()).hexdigest()[:24]
        write_feature_file(
            self.folder / f"{name}.safetensors",
            Features(vectors.reshape(-1, self.width), tuple(keys), {"outcomes": json.dumps(said)}, "block", segments),
        )

    def read(self) -> Known:
        """What is there; a file that is not a block of this encoder is removed, and will be made again."""
        known = Known()
        for path in sorted(self.folder.glob("[!.]*.safetensors")):
            try:
                block = open_feature_file(path)
                said = json.loads(block.provenance.get("outcomes", "{}"))
            except (FeatureError, ValueError):
                path.unlink()
                continue
            known.rows.update((key, (path, row)) for row, key in enumerate(block.tokens))
            for key, (kind, reason) in said.items():
                if kind == NOTE or key not in known.outcomes:
                    known.outcomes[key] = Outcome(kind, reason)
        for key in known.rows.keys() & known.outcomes.keys():
            if known.outcomes[key].kind != NOTE:  # it failed once, and was encoded later
                del known.outcomes[key]
        return known

    def block(self, path: Path) -> Features:
        """The vectors of one block, and their segments."""
        return open_feature_file(path)
