"""float32 or bfloat16: the faster one where its vectors stay the same."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from recbole_mm.extraction.encoder import Encoder, ItemError, Prepared, Source
from recbole_mm.files import write_text

CHOICES = ("auto", "float32", "bfloat16")
MIN_COSINE = 0.999  # to the float32 vector of the same source, for every source of the sample
_SAMPLE = 8


def has_bfloat16(device: str) -> bool:
    """Whether the processor multiplies bfloat16 matrices itself: emulated, it would be slower than float32."""
    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def with_precision(
    make: Callable[[str], Encoder], asked: str, sources: Sequence[Source], device: str, folder: Path
) -> tuple[Encoder, str]:
    """The encoder in the precision asked for, and why; ``auto`` compares both on a sample of the sources.

    Args:
        make: builds the encoder in a precision.
        asked: one of :data:`CHOICES`.
        sources: what is to be encoded; the first that can be prepared are the sample.
        device: torch device.
        folder: where ``auto`` keeps its choice, so that a later run of the same encoder makes the same.
    """
    if asked != "auto":
        return make(asked), f"{asked}, as asked for"
    if not has_bfloat16(device):
        return make("float32"), "float32: no bfloat16 in this processor"
    exact = make("float32")
    kept = folder / f"{exact.card.signature()}.precision"
    if not kept.is_file():
        fast = make("bfloat16")
        cosine = _lowest_cosine(exact, fast, sources)
        chosen = "bfloat16" if cosine >= MIN_COSINE else "float32"
        write_text(kept, f"{chosen}: lowest cosine of bfloat16 to float32 on a sample is {cosine:.5f}")
        return (fast if chosen == "bfloat16" else exact), kept.read_text(encoding="utf-8")
    why = kept.read_text(encoding="utf-8")
    return (make("bfloat16") if why.startswith("bfloat16") else exact), why


def _lowest_cosine(exact: Encoder, fast: Encoder, sources: Sequence[Source]) -> float:
    """Over the first sources that can be prepared; -1 if there are none."""
    sample: list[Prepared] = []
    for source in sources:
        try:
            sample.append(exact.prepare(source))
        except ItemError:
            continue
        if len(sample) == _SAMPLE:
            break
    if not sample:
        return -1.0
    a, b = (encoder.encode_prepared(sample).astype(np.float64) for encoder in (exact, fast))
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosines = (a * b).sum(axis=1) / np.maximum(norms, 1e-12)
    return float(np.nan_to_num(cosines, nan=-1.0).min())
