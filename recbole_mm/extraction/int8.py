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
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from recbole_mm.errors import ExtractionError
from recbole_mm.extraction.encoder import Encoder, ItemError, Source
from recbole_mm.extraction.openvino import CompiledNetwork, read_graph, save_graph, without_telemetry

_CALIBRATED, _CONTROLLED, _CHECKED = 64, 32, 64  # pictures
_LEAST = 10  # pictures, without which nothing can be said
_AIM = 0.9995  # of the control: above the bar, since other pictures fare a little worse
_MOST = 24  # layers that are sought: with more of them in floating point, little would be gained
_RANGES = ("MINMAX", "MEAN_MINMAX")  # of activations: the widest, or the mean over pictures, which cuts off outliers


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

    def made(self, exact: Encoder, sources: Sequence[Source]) -> Quantised:
        """The network that an earlier run kept, or a new one.

        Args:
            exact: the encoder in float32, run by OpenVINO.
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
        network: CompiledNetwork = exact.compiled  # type: ignore[attr-defined]
        return self._calibrated(network, _drawn(exact, sources))

    def _calibrated(self, exact: CompiledNetwork, pixels: NDArray[np.uint8]) -> Quantised:
        calibration, control, check = (pixels[part] for part in _parts(len(pixels)))
        expected = exact.vectors(check)

        def cosine(graph: Any, rest: str) -> float:
            return lowest_cosine(expected, CompiledNetwork(graph, rest).vectors(check))

        rest = "bfloat16" if self.bfloat16 and cosine(exact.graph, "bfloat16") >= self.least else "float32"
        quantiser = _Quantiser(exact.graph, calibration, control, exact.vectors(control))
        quantised = Quantised("", -1.0, False)
        for seek in (False, True) if self.seek else (False,):
            made = quantiser.harmless_layers() if seek else quantiser.all_layers()
            quantised = Quantised(f"{_extent(made)}, the rest in {rest}", cosine(made, rest), seek)
            if quantised.cosine >= self.least:
                break
        facts = {"extent": quantised.extent, "rest": rest, "cosine": f"{quantised.cosine:.5f}"}
        save_graph(made, self.path, {**facts, "sought": "yes" if quantised.sought else "no"})
        return quantised


def _drawn(encoder: Encoder, sources: Sequence[Source]) -> NDArray[np.uint8]:
    """Pictures [n, H, W, 3] of sources in an order that depends on nothing but their number."""
    pixels: list[NDArray[np.uint8]] = []
    wanted = _CALIBRATED + _CONTROLLED + _CHECKED
    for number in random.Random(0).sample(range(len(sources)), len(sources)):
        with contextlib.suppress(ItemError):  # it is told when its turn comes
            pixels += [unit.data for unit in encoder.prepare(sources[number]).units]
        if len(pixels) >= wanted:
            break
    if len(pixels) < _LEAST:
        raise ExtractionError(f"precision int8: {len(pixels)} pictures; expected {_LEAST} to calibrate on and check by")
    return np.stack(pixels[:wanted])


def _parts(count: int) -> tuple[slice, slice, slice]:
    """Of so many pictures those to calibrate on, to control by, and to check by."""
    total = _CALIBRATED + _CONTROLLED + _CHECKED
    first, second = count * _CALIBRATED // total, count * (_CALIBRATED + _CONTROLLED) // total
    return slice(first), slice(first, second), slice(second, count)


def _extent(graph: Any) -> str:
    """How many of the operations that have weights have them in 8-bit integers."""
    operations = graph.get_ops()
    total = sum(op.get_type_name() in {"Convolution", "GroupConvolution", "MatMul"} for op in operations)
    integers = sum(op.get_type_name() == "Constant" and op.get_element_type().to_string() == "i8" for op in operations)
    return f"{integers} of {total} layers in 8-bit integers"


class _Quantiser:
    """NNCF for one graph.

    Args:
        graph: in float32.
        calibration: pictures, uint8 [C, H, W, 3].
        control: other pictures, [N, H, W, 3].
        vectors: their float32 vectors, [N, F].
    """

    def __init__(
        self, graph: Any, calibration: NDArray[np.uint8], control: NDArray[np.uint8], vectors: NDArray[np.float32]
    ) -> None:
        self._graph, self._calibration, self._vectors = graph, calibration, vectors
        self._control = control
        self._ranges = _RANGES[0]

    def all_layers(self) -> Any:
        """All layers, with the ranges of activations that serve the control best."""
        best, highest = None, -2.0
        for ranges in _RANGES:
            with _nncf() as nncf:
                made = nncf.quantize(self._graph, advanced_parameters=_advanced(nncf, ranges), **self._settings(nncf))
            cosine = lowest_cosine(self._vectors, CompiledNetwork(made, "float32").vectors(self._control))
            if cosine > highest:
                best, highest, self._ranges = made, cosine, ranges
            if cosine >= _AIM:
                break
        return best

    def harmless_layers(self) -> Any:
        """Without the layers that harm the control most, one after another until it keeps to the aim."""

        def cosine(compiled: Any, pictures: Iterable[NDArray[np.uint8]]) -> tuple[float, None]:
            made = np.concatenate([np.array(compiled(picture)[0]) for picture in pictures])
            return lowest_cosine(self._vectors, made), None

        with _nncf() as nncf:
            return nncf.quantize_with_accuracy_control(
                self._graph,
                validation_dataset=nncf.Dataset([picture[None] for picture in self._control]),
                validation_fn=cosine,
                max_drop=1 - _AIM,
                advanced_accuracy_restorer_parameters=nncf.AdvancedAccuracyRestorerParameters(max_num_iterations=_MOST),
                advanced_quantization_parameters=_advanced(nncf, self._ranges),
                **self._settings(nncf),
            )

    def _settings(self, nncf: Any) -> dict[str, Any]:
        return {
            "calibration_dataset": nncf.Dataset([picture[None] for picture in self._calibration]),
            "subset_size": len(self._calibration),
            "preset": nncf.QuantizationPreset.MIXED,
        }


def _advanced(nncf: Any, ranges: str) -> Any:
    """NNCF's settings with an estimator of the ranges of activations by its name there."""
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    return nncf.AdvancedQuantizationParameters(
        activations_range_estimator_params=getattr(RangeEstimatorParametersSet, ranges)
    )


@contextlib.contextmanager
def _nncf() -> Iterator[Any]:
    """The package, which says nothing, neither here nor over the network."""
    with without_telemetry(), contextlib.redirect_stdout(io.StringIO()):  # its bars and reports
        import nncf

        nncf.set_log_level(logging.ERROR)
        yield nncf
