"""A backbone in 8-bit integers, calibrated on the user's own pictures, as far as its vectors stay the same.

Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018;
by NNCF. The pictures are drawn with a fixed seed and dealt into three: ranges are calibrated on the first part; where
the vectors of the second differ, the operations that harm them most go back to floating point, one after another;
the third, which had no part in that, tells how far the vectors stay.
"""

import contextlib
import importlib.util
import io
import logging
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from recbole_mm.errors import ExtractionError
from recbole_mm.extraction.encoder import Encoder, ItemError, Prepared, Source, Unit
from recbole_mm.extraction.openvino import read_graph, save_graph, without_telemetry

_CALIBRATED, _CONTROLLED, _CHECKED = 64, 32, 64  # pictures
_LEAST = 10  # pictures, without which nothing can be said
_AIM = 0.9995  # of the control: above the bar, since other pictures fare a little worse


def has_int8() -> bool:
    """Whether the processor multiplies 8-bit integers itself, and the package that calibrates is there."""
    vector = torch.cpu._is_vnni_supported() or torch.cpu._is_amx_tile_supported()
    return bool(vector) and importlib.util.find_spec("nncf") is not None


def lowest_cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Over the rows of two matrices [N, F]; -1 if there are none."""
    if not len(a):
        return -1.0
    x, y = a.astype(np.float64), b.astype(np.float64)
    cosines = (x * y).sum(axis=1) / np.maximum(np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1), 1e-12)
    return float(np.nan_to_num(cosines, nan=-1.0).min())


@dataclass(frozen=True)
class Quantised:
    """What is known of a calibrated network."""

    extent: str  # how many of its layers are in 8-bit integers, and in what the rest is
    cosine: float  # lowest, to the float32 vectors of pictures that had no part in the calibration
    sought: bool  # the layers that harm the vectors were sought, if need was


@dataclass(frozen=True)
class Int8:
    """How a network is quantised, and where it is kept.

    Args:
        path: of the network (.xml); its weights lie beside it (.bin).
        bfloat16: what is not in 8-bit integers may be in bfloat16, if that alone keeps to ``least``.
        least: cosine to float32.
        seek: where all layers in 8-bit integers fall below ``least``, return those that harm most to floating point.
            It takes minutes.
    """

    path: Path
    bfloat16: bool
    least: float
    seek: bool

    def made(self, exact: Encoder, make: Callable[..., Encoder], sources: Sequence[Source]) -> Quantised:
        """The network that an earlier run kept, or a new one.

        Args:
            exact: the encoder in float32, run by OpenVINO.
            make: builds it in a precision; for ``int8`` with ``quantised``, the network's path.
            sources: what is to be encoded.

        Raises:
            ExtractionError: NNCF is not installed, or there are too few pictures.
        """
        if self.path.is_file():
            facts = read_graph(self.path)[1]
            kept = Quantised(facts["extent"], float(facts["cosine"]), facts["sought"] == "yes")
            if kept.cosine >= self.least or kept.sought or not self.seek:
                return kept
        if importlib.util.find_spec("nncf") is None:
            raise ExtractionError("precision int8: nncf is not installed; pip install 'recbole-mm[openvino]'")
        return self._calibrated(exact, make, _drawn(exact, sources))

    def _calibrated(self, exact: Encoder, make: Callable[..., Encoder], units: list[Unit]) -> Quantised:
        vectors, pixels = _encode(exact, units), np.stack([unit.data for unit in units])
        calibration, control, check = _parts(len(units))
        rest = "float32"
        if self.bfloat16 and lowest_cosine(vectors[check], _encode(make("bfloat16"), units[check])) >= self.least:
            rest = "bfloat16"
        graph = exact.compiled.graph  # type: ignore[attr-defined]
        quantised = Quantised("", -1.0, False)
        for seek in (False, True) if self.seek else (False,):
            made = _nncf(graph, pixels[calibration], (pixels[control], vectors[control]) if seek else None)
            facts = {"extent": f"{_extent(made)}, the rest in {rest}", "rest": rest, "sought": "no", "cosine": "-1"}
            save_graph(made, self.path, facts)
            cosine = lowest_cosine(vectors[check], _encode(make("int8", quantised=self.path), units[check]))
            save_graph(made, self.path, {**facts, "cosine": f"{cosine:.5f}", "sought": "yes" if seek else "no"})
            quantised = Quantised(facts["extent"], cosine, seek)
            if cosine >= self.least:
                break
        return quantised


def _drawn(encoder: Encoder, sources: Sequence[Source]) -> list[Unit]:
    """Pictures of sources in an order that depends on nothing but their number."""
    units: list[Unit] = []
    wanted = _CALIBRATED + _CONTROLLED + _CHECKED
    for number in random.Random(0).sample(range(len(sources)), len(sources)):
        with contextlib.suppress(ItemError):  # it is told when its turn comes
            units += encoder.prepare(sources[number]).units
        if len(units) >= wanted:
            return units[:wanted]
    if len(units) < _LEAST:
        raise ExtractionError(f"precision int8: {len(units)} pictures; expected {_LEAST} to calibrate on and check by")
    return units


def _parts(count: int) -> tuple[slice, slice, slice]:
    """Of so many pictures those to calibrate on, to control by, and to check by."""
    total = _CALIBRATED + _CONTROLLED + _CHECKED
    first, second = count * _CALIBRATED // total, count * (_CALIBRATED + _CONTROLLED) // total
    return slice(first), slice(first, second), slice(second, count)


def _encode(encoder: Encoder, units: Sequence[Unit]) -> NDArray[np.float32]:
    """The vector of each picture, [N, F]."""
    return encoder.encode_prepared([Prepared((unit,)) for unit in units])


def _extent(graph: Any) -> str:
    """How many of the operations that have weights have them in 8-bit integers."""
    operations = graph.get_ops()
    total = sum(op.get_type_name() in {"Convolution", "GroupConvolution", "MatMul"} for op in operations)
    integers = sum(op.get_type_name() == "Constant" and op.get_element_type().to_string() == "i8" for op in operations)
    return f"{integers} of {total} layers in 8-bit integers"


def _nncf(
    graph: Any, calibration: NDArray[np.uint8], control: tuple[NDArray[np.uint8], NDArray[np.float32]] | None
) -> Any:
    """The graph quantised; with control pictures and their vectors, by no more than keeps these to the aim."""
    with without_telemetry(), contextlib.redirect_stdout(io.StringIO()):  # its progress bars
        import nncf

        nncf.set_log_level(logging.ERROR)
        settings = {
            "calibration_dataset": nncf.Dataset([picture[None] for picture in calibration]),
            "subset_size": len(calibration),
            "preset": nncf.QuantizationPreset.MIXED,
        }
        if control is None:
            return nncf.quantize(graph, **settings)
        pixels, vectors = control

        def cosine(compiled: Any, batches: Iterable[NDArray[np.uint8]]) -> tuple[float, None]:
            made = np.concatenate([compiled(batch)[0].copy() for batch in batches])
            return lowest_cosine(vectors, made), None

        return nncf.quantize_with_accuracy_control(
            graph,
            validation_dataset=nncf.Dataset([pixels[i : i + 8] for i in range(0, len(pixels), 8)]),
            validation_fn=cosine,
            max_drop=1 - _AIM,
            **settings,
        )
