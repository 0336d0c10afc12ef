"""float32, bfloat16 or 8-bit integers: the fastest by which the vectors stay the same."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from recbole_mm.errors import ExtractionError
from recbole_mm.extraction.encoder import Encoder, ItemError, Prepared, Source
from recbole_mm.extraction.int8 import Int8, has_int8, lowest_cosine
from recbole_mm.files import write_text

CHOICES = ("auto", "float32", "bfloat16", "int8")
MIN_COSINE = 0.999  # to the float32 vector of the same source, for every source of the sample
_SAMPLE = 8
# sources from which on 8-bit integers save more time than it takes to calibrate them, and to seek harmful layers
_PAYS, _SEEKING_PAYS = 2_000, 50_000


def has_bfloat16(device: str) -> bool:
    """Whether the processor multiplies bfloat16 matrices itself: emulated, it would be slower than float32."""
    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def with_precision(
    make: Callable[..., Encoder],
    asked: str,
    sources: Sequence[Source],
    device: str,
    folder: Path,
    say: Callable[[str], None] = lambda text: None,
) -> tuple[Encoder, str]:
    """The encoder in the precision asked for, and why; ``auto`` and ``int8`` compare on a sample of the sources.

    Args:
        make: builds the encoder in a precision; for ``int8`` with ``quantised``, the path of its network.
        asked: one of :data:`CHOICES`.
        sources: what is to be encoded; for bfloat16 the first that can be prepared are the sample.
        device: torch device.
        folder: where the choice and a network in 8-bit integers are kept, so that a later run has the same.
        say: told what takes a while.

    Raises:
        ExtractionError: ``int8`` is asked for, and cannot be had.
    """
    if asked in {"float32", "bfloat16"}:
        return make(asked), f"{asked}, as asked for"
    exact = make("float32")
    fast = _faster(exact, asked, len(sources), device)
    if not fast:
        return exact, "float32: no bfloat16 in this processor"
    stem = folder / exact.card.signature()
    network, kept = stem.with_suffix(".int8.xml"), stem.with_suffix(".int8" if asked == "int8" else ".precision")
    if not kept.is_file() or (_chosen(kept) == "int8" and not network.is_file()):
        seek = asked == "int8" or len(sources) >= _SEEKING_PAYS
        write_text(
            kept, _compare(exact, make, fast, sources, Int8(network, has_bfloat16(device), MIN_COSINE, seek), say)
        )
    chosen, why = _chosen(kept), kept.read_text(encoding="utf-8")
    if chosen == "float32":
        return exact, why
    return (make("int8", quantised=network) if chosen == "int8" else make(chosen)), why


def _faster(exact: Encoder, asked: str, n_sources: int, device: str) -> list[str]:
    """What may be faster than float32, the fastest first."""
    quantisable = getattr(exact, "compiled", None) is not None
    if asked == "int8" and not quantisable:
        raise ExtractionError(
            "precision int8: expected a torchvision backbone that OpenVINO runs on the processor (--engine openvino; "
            "pip install 'recbole-mm[openvino]')"
        )
    int8 = asked == "int8" or (quantisable and n_sources >= _PAYS and has_int8())
    return [*(["int8"] if int8 else []), *(["bfloat16"] if has_bfloat16(device) else [])]


def _chosen(kept: Path) -> str:
    return kept.read_text(encoding="utf-8").split(":", maxsplit=1)[0]


def _compare(
    exact: Encoder,
    make: Callable[..., Encoder],
    fast: Sequence[str],
    sources: Sequence[Source],
    int8: Int8,
    say: Callable[[str], None],
) -> str:
    """The first whose vectors stay, else float32; and how far each one's do."""
    found: list[str] = []
    for precision in fast:
        extent = ""
        if precision == "int8":
            say(f"calibrating 8-bit integers, kept as {int8.path}")
            quantised = int8.made(exact, sources)
            cosine, extent = quantised.cosine, f" ({quantised.extent})"
        else:
            cosine = _lowest_cosine(exact, make(precision), sources)
        found.append(f"lowest cosine of {precision} to float32 on a sample is {cosine:.5f}{extent}")
        if cosine >= MIN_COSINE:
            return f"{precision}: {'; '.join(found)}"
    return f"float32: {'; '.join(found)}"


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
    return lowest_cosine(exact.encode_prepared(sample), fast.encode_prepared(sample))
