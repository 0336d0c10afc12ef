"""Decoding the sound of a file with PyAV: mono, resampled, in chunks."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recbole_mm.extraction.encoder import ItemError, NothingToEncode
from recbole_mm.extraction.video import import_av, opened

SILENCE = 0.001  # root mean square of full scale: -60 dB
MAX_S = 1800.0  # of a longer track the beginning is used
_FULL_SCALE = 32768.0


def read_chunks(path: Path, rate_hz: int, chunk_s: float, max_s: float = MAX_S) -> tuple[list[NDArray[np.int16]], str]:
    """Mono samples in chunks of ``chunk_s``, the last one up to a second longer, and a note if there is one.

    Raises:
        NothingToEncode: there is no sound track, or it is silent.
        ItemError: it cannot be decoded.
    """
    size = round(chunk_s * rate_hz)
    chunks: list[NDArray[np.int16]] = []
    held: list[NDArray[np.int16]] = []
    count, total = 0, 0
    notes = []
    with opened(path) as container:
        if not container.streams.audio:
            raise NothingToEncode("no sound track")
        track = _Track(container, rate_hz)
        for samples in track.samples():
            held.append(samples)
            count += len(samples)
            while count >= size:
                joined = np.concatenate(held)
                chunks.append(joined[:size])
                held, count = [joined[size:]], count - size
                total += size
            if total >= max_s * rate_hz:
                notes.append(f"sound is longer than {max_s:g} s: the beginning is used")
                break
        if track.broken:
            notes.append(f"{track.broken} broken packets of sound passed over")
    chunks = _with_rest(chunks, np.concatenate(held) if held else np.zeros(0, np.int16), rate_hz)
    if not chunks:
        raise ItemError(f"no sound can be decoded ({track.broken} broken packets)")
    if _loudness(chunks) < SILENCE:
        raise NothingToEncode("silent")
    return chunks, "; ".join(notes)


def _with_rest(chunks: list[NDArray[np.int16]], rest: NDArray[np.int16], least: int) -> list[NDArray[np.int16]]:
    """A rest of less than a second goes with the chunk before it."""
    if chunks and len(rest) < least:
        return [*chunks[:-1], np.concatenate([chunks[-1], rest])]
    return [*chunks, rest] if len(rest) else chunks


def _loudness(chunks: list[NDArray[np.int16]]) -> float:
    """Root mean square, full scale being 1."""
    squares = sum(float(np.square(chunk, dtype=np.float32).sum(dtype=np.float64)) for chunk in chunks)
    return float(np.sqrt(squares / sum(map(len, chunks)))) / _FULL_SCALE


def as_float(samples: NDArray[np.int16]) -> NDArray[np.float32]:
    """Samples in [-1, 1)."""
    return np.asarray(samples, dtype=np.float32) / np.float32(_FULL_SCALE)


class _Track:
    """The first sound track, resampled."""

    def __init__(self, container: Any, rate_hz: int) -> None:
        self._av = import_av()
        self._container = container
        self._resampler = self._av.AudioResampler(format="s16", layout="mono", rate=rate_hz)
        self.broken = 0

    def samples(self) -> Iterator[NDArray[np.int16]]:
        """Pieces of the track as they are decoded."""
        for packet in self._container.demux(self._container.streams.audio[0]):
            try:
                pieces = [piece for frame in packet.decode() for piece in self._resampler.resample(frame)]
            except (self._av.error.FFmpegError, ValueError):
                self.broken += 1
                continue
            for piece in pieces:
                yield piece.to_ndarray()[0]
        try:
            rest = self._resampler.resample(None)
        except (self._av.error.FFmpegError, ValueError):
            return  # nothing was decoded at all
        for piece in rest:
            yield piece.to_ndarray()[0]
