"""Decoding a video with PyAV: frames at given times by seeking, upright, memory bounded by one frame at a time."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recbole_mm.errors import ExtractionError
from recbole_mm.extraction.encoder import ItemError
from recbole_mm.extraction.images import file_size

_FAR_S = 1.0  # to a frame further ahead than this it seeks, to a nearer one it decodes on
_EPSILON_S = 1e-6
_BEYOND_S = 1e6  # past the end of any video


@dataclass(frozen=True)
class Frame:
    """One picture, uint8 [H, W, 3] RGB and upright, and when it is shown, in seconds from the video's start."""

    image: NDArray[np.uint8]
    time_s: float


def import_av() -> Any:
    """PyAV, which the extra ``video`` installs.

    Raises:
        ExtractionError: it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise ExtractionError("video and audio need PyAV: pip install 'recbole-mm[video]'") from error
    av.logging.set_level(av.logging.PANIC)
    return av


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Any]:
    """PyAV's container of a file.

    Raises:
        ItemError: it is absent, empty, or not a file that FFmpeg reads.
    """
    av = import_av()
    size = file_size(path)
    try:
        container = av.open(str(path), metadata_errors="replace")
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise ItemError(f"cannot be opened ({_reason(error)}, {size:,} bytes)") from None
    with container:
        yield container


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)


class Video:
    """The first video stream of an open file."""

    def __init__(self, container: Any) -> None:
        self._av = import_av()
        self._container = container
        if not container.streams.video:
            raise ItemError("no video stream")
        self._stream = container.streams.video[0]
        self._stream.thread_type = "AUTO"
        self.decoded = 0  # frames
        self.broken = 0  # packets that could not be decoded
        self.damaged = 0  # frames that were made up in part
        self._start = float((self._stream.start_time or 0) * self._stream.time_base)

    def duration_s(self) -> float:
        """To the end of the last frame: what the packets after the last key frame say, since headers may be wrong.

        Raises:
            ItemError: there is not one packet.
        """
        self._seek(_BEYOND_S)
        packets = self._container.demux(self._stream)
        ends = [p.pts + (p.duration or 0) for p in packets if p.pts is not None]
        self._seek(0.0)
        if not ends:
            raise ItemError("no frame in the video stream")
        return max(float(max(ends) * self._stream.time_base) - self._start, 0.0)

    def _seek(self, time_s: float) -> bool:
        try:
            target = int((time_s + self._start) / self._stream.time_base)
            self._container.seek(target, stream=self._stream, backward=True)
        except (self._av.error.FFmpegError, OSError):
            return False
        return True

    def _frames(self) -> Iterator[tuple[float, Any]]:
        """Times and PyAV frames from where the stream stands; broken packets are counted and passed over."""
        for packet in self._container.demux(self._stream):
            try:
                frames = packet.decode()
            except self._av.error.FFmpegError:
                self.broken += 1
                continue
            for frame in frames:
                self.decoded += 1
                if frame.pts is not None:
                    yield float(frame.pts * self._stream.time_base) - self._start, frame

    def frames_at(self, times_s: Sequence[float]) -> Iterator[Frame]:
        """The frame shown at each time, times ascending; fewer where the stream ends or cannot be decoded."""
        stream = _Peekable(self._frames())
        for time_s in times_s:
            last = stream.last
            far = last is None or time_s - last[0] > _FAR_S
            if far and (self._seek(max(time_s, 0.0)) or last is None):
                stream = _Peekable(self._frames())
            shown = stream.shown_at(time_s)
            if shown is not None:
                self.damaged += bool(shown[1].is_corrupt)
                yield Frame(_upright(shown[1]), shown[0])


class _Peekable:
    """Decoded frames, of which the one shown at a time is known only when the next one has come."""

    def __init__(self, frames: Iterator[tuple[float, Any]]) -> None:
        self._frames = frames
        self._next: tuple[float, Any] | None = None  # decoded, and not yet shown
        self.last: tuple[float, Any] | None = None

    def shown_at(self, time_s: float) -> tuple[float, Any] | None:
        """The last frame that begins at or before ``time_s``, else the first after it."""
        while True:
            if self._next is None:
                self._next = next(self._frames, None)
            if self._next is None:
                return self.last
            later = self._next[0] > time_s + _EPSILON_S
            if later and self.last is not None:
                return self.last
            self.last, self._next = self._next, None
            if later:
                return self.last


def _upright(frame: Any) -> NDArray[np.uint8]:
    """RGB, turned as the file's display matrix says."""
    image = frame.to_ndarray(format="rgb24")
    turns = round(getattr(frame, "rotation", 0) / 90) % 4
    return np.ascontiguousarray(np.rot90(image, turns))
