"""A convolutional network compiled by OpenVINO: half as fast again on a processor as torch, in the same precision."""

import contextlib
import importlib.util
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recbole_mm.errors import ExtractionError

ENGINES = ("torch", "openvino")
_HINTS = {"float32": "f32", "bfloat16": "bf16"}


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
def _without_telemetry() -> Iterator[None]:
    """OpenVINO reports over the network that it was imported, unless its reporting package cannot be."""
    name = "openvino_telemetry"
    kept = sys.modules.get(name)
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]
        if kept is not None:
            sys.modules[name] = kept


class CompiledNetwork:
    """``network`` for batches of pictures, uint8 [B, H, W, 3] to [B, F] float32.

    Args:
        network: takes such a batch as a tensor.
        size_px: H and W.
        precision: ``float32`` or ``bfloat16``.
    """

    def __init__(self, network: nn.Module, size_px: int, precision: str) -> None:
        with _without_telemetry():
            import openvino

            example = torch.zeros((2, size_px, size_px, 3), dtype=torch.uint8)
            graph = openvino.convert_model(network.eval(), example_input=example, input=[-1, size_px, size_px, 3])
        compiled = openvino.Core().compile_model(
            graph,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": _HINTS[precision],
                "INFERENCE_NUM_THREADS": torch.get_num_threads(),
                "NUM_STREAMS": 1,
            },
        )
        self._request: Any = compiled.create_infer_request()

    def __call__(self, pixels: NDArray[np.uint8]) -> Tensor:
        """Vectors of a batch; not for several threads at a time."""
        return torch.from_numpy(np.array(self._request.infer({0: pixels})[0], dtype=np.float32))
