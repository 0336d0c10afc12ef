"""A convolutional network compiled by OpenVINO: on a processor, half as fast again as torch in the same precision."""

import contextlib
import importlib.util
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recbole_mm.errors import ExtractionError

ENGINES = ("torch", "openvino")
_HINTS = {"float32": "f32", "bfloat16": "bf16"}
_BATCH = 8
_FACTS = "recbole_mm"  # our corner of what OpenVINO keeps with a graph


def choose_engine(asked: str, device: str) -> str:
    """The engine asked for; ``auto``: OpenVINO where it is installed and the device is the processor.

    Raises:
        ExtractionError: OpenVINO is asked for and cannot be used.
    """
    installed = importlib.util.find_spec("openvino") is not None
    if asked == "auto":
        return "openvino" if installed and device == "cpu" else "torch"
    if asked == "openvino" and not installed:
        raise ExtractionError("engine openvino: not installed; pip install 'recbole-mm[openvino]', or --engine torch")
    if asked == "openvino" and device != "cpu":
        raise ExtractionError(f"engine openvino: device '{device}'; expected cpu, or --engine torch")
    return asked


@contextlib.contextmanager
def without_telemetry() -> Iterator[None]:
    """OpenVINO and NNCF report their use over the network, unless the reporting package cannot be imported."""
    name = "openvino_telemetry"
    kept = sys.modules.get(name)
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]
        if kept is not None:
            sys.modules[name] = kept


def convert(network: nn.Module, size_px: int) -> Any:
    """OpenVINO's graph of a network that takes uint8 [B, ``size_px``, ``size_px``, 3]."""
    with without_telemetry():
        import openvino

        example = torch.zeros((2, size_px, size_px, 3), dtype=torch.uint8)
        return openvino.convert_model(network.eval(), example_input=example, input=[-1, size_px, size_px, 3])


def save_graph(graph: Any, path: Path, facts: Mapping[str, str]) -> None:
    """Write ``path`` (.xml) with facts in it, and the weights beside it (.bin); ``path`` is there if both are whole."""
    with without_telemetry():
        import openvino

    for name, fact in facts.items():
        graph.set_rt_info(fact, [_FACTS, name])
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".graph.") as folder:
        made = Path(folder) / path.name
        openvino.save_model(graph, made, compress_to_fp16=False)
        path.unlink(missing_ok=True)  # else killed here, it would stand beside other weights
        made.with_suffix(".bin").replace(path.with_suffix(".bin"))
        made.replace(path)


def read_graph(path: Path) -> tuple[Any, dict[str, str]]:
    """What :func:`save_graph` wrote: the graph, and the facts.

    Raises:
        ExtractionError: it is not there, or is something else.
    """
    with without_telemetry():
        import openvino

    try:
        graph = openvino.Core().read_model(path)
        return graph, {name: fact.astype(str) for name, fact in graph.get_rt_info()[_FACTS].items()}
    except (RuntimeError, KeyError) as error:
        raise ExtractionError(f"{path}: not a quantised network; delete it, and it is made again") from error


class CompiledNetwork:
    """A graph for batches of pictures, uint8 [B, H, W, 3] to [B, F] float32.

    Args:
        graph: of :func:`convert` or :func:`read_graph`.
        precision: of what is not in 8-bit integers, ``float32`` or ``bfloat16``.
    """

    def __init__(self, graph: Any, precision: str) -> None:
        import openvino

        self.graph = graph
        hints = {"INFERENCE_PRECISION_HINT": _HINTS[precision], "INFERENCE_NUM_THREADS": torch.get_num_threads()}
        compiled = openvino.Core().compile_model(graph, "CPU", {**hints, "NUM_STREAMS": 1})
        self._request: Any = compiled.create_infer_request()

    def __call__(self, pixels: NDArray[np.uint8]) -> Tensor:
        """Vectors of a batch; not for several threads at a time."""
        return torch.from_numpy(np.array(self._request.infer({0: pixels})[0], dtype=np.float32))

    def vectors(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Of any number of pictures, in batches, [N, F]."""
        return np.concatenate([self(pixels[i : i + _BATCH]).numpy() for i in range(0, len(pixels), _BATCH)])
