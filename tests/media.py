"""Pictures, sound and clips that the tests make."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

RATE_HZ = 16000


def picture(path: Path, seed: int, *, size: tuple[int, int] = (96, 128)) -> Path:
    """A JPEG (or what the suffix says) of smooth colours."""
    draw = np.random.default_rng(seed)
    small = draw.integers(0, 255, (6, 5, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).save(path)
    return path


def tone(frequency_hz: float, seconds: float, *, loud: float = 0.5, seed: int = 0) -> np.ndarray:
    """A tone with its octave and a little noise, int16."""
    t = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    noise = np.random.default_rng(seed).normal(scale=0.05, size=len(t))
    wave = np.sin(2 * np.pi * frequency_hz * t) + 0.5 * np.sin(4 * np.pi * frequency_hz * t) + noise
    return np.asarray(loud * wave / np.abs(wave).max() * 32767, dtype=np.int16)


def write_clip(
    path: Path,
    frames: list[np.ndarray],
    *,
    fps: int = 8,
    sound: np.ndarray | None = None,
    times: list[Fraction] | None = None,
    gop: int = 12,
) -> Path:
    """Encode frames [H, W, 3] as H.264 (MPEG-4 where it is not built in) and sound as AAC.

    ``times`` are the frames' own times in seconds, for a variable frame rate.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
        video = container.add_stream(codec, rate=fps)
        video.height, video.width = frames[0].shape[:2]
        video.pix_fmt = "yuv420p"
        video.codec_context.gop_size = gop
        base = Fraction(1, 1000) if times else Fraction(1, fps)
        video.codec_context.time_base = base
        audio = container.add_stream("aac", rate=RATE_HZ) if sound is not None else None
        for number, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts = round(times[number] / base) if times else number
            frame.time_base = base
            if times:
                after = times[number + 1] if number + 1 < len(times) else times[number] + Fraction(1, fps)
                frame.duration = round((after - times[number]) / base)
            container.mux(video.encode(frame))
        container.mux(video.encode())
        if audio is not None:
            for start in range(0, len(sound), 1024):
                piece = av.AudioFrame.from_ndarray(sound[None, start : start + 1024], format="s16", layout="mono")
                piece.sample_rate, piece.pts = RATE_HZ, start
                container.mux(audio.encode(piece))
            container.mux(audio.encode())
    return path


def write_sound(path: Path, samples: np.ndarray) -> Path:
    """A WAV file."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=RATE_HZ)
        frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        frame.sample_rate = RATE_HZ
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def plain(colour: tuple[int, int, int], size: tuple[int, int] = (64, 96)) -> np.ndarray:
    """A frame of one colour, [H, W, 3]."""
    return np.broadcast_to(np.array(colour, np.uint8), (*size, 3)).copy()


def turn(path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """Write a rotation (a, b, c, d), in quarter turns' cosines and sines, into an MP4's track header."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # version 0: the matrix follows forty bytes of other fields
    for offset, value in zip((0, 4, 12, 16), matrix, strict=True):
        data[at + offset : at + offset + 4] = (value * 0x10000).to_bytes(4, "big", signed=True)
    path.write_bytes(data)
    return path
