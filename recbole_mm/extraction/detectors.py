"""Counting the objects in a frame: YOLOS through transformers, or a model of ultralytics that the user installs.

Fang et al., "You Only Look at One Sequence: Rethinking Transformer in Vision through Object Detection", NeurIPS 2021.
"""

import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from recbole_mm import compat
from recbole_mm.errors import ExtractionError
from recbole_mm.extraction.weights import from_pretrained, load_model, resolved_revision

DEFAULT = "hustvl/yolos-tiny"
MIN_SCORE = 0.5
_ULTRALYTICS = "ultralytics:"


class Detector(ABC):
    """``name`` is what builds it again; ``revision`` are its weights."""

    def __init__(self, name: str, revision: str) -> None:
        self.name = name
        self.revision = revision
        self._lock = threading.Lock()  # one batch at a time, whatever the number of decoding threads

    def __str__(self) -> str:
        return f"{self.name}, {self.revision}"

    def count(self, images: Sequence[NDArray[np.uint8]]) -> list[int]:
        """Objects in each image, [H, W, 3] RGB."""
        with self._lock:
            return self._count(images)

    @abstractmethod
    def _count(self, images: Sequence[NDArray[np.uint8]]) -> list[int]: ...


class YolosDetector(Detector):
    """Detections of any class with a score of at least ``MIN_SCORE``."""

    def __init__(self, checkpoint: str = DEFAULT, *, device: str = "cpu") -> None:
        compat.ensure_torchvision()
        from transformers import AutoImageProcessor, AutoModelForObjectDetection

        self._processor: Any = from_pretrained(AutoImageProcessor, checkpoint)
        self._model = load_model(AutoModelForObjectDetection, checkpoint).eval().to(device)
        self._device = device
        super().__init__(checkpoint, resolved_revision(checkpoint, self._model))

    def _count(self, images: Sequence[NDArray[np.uint8]]) -> list[int]:
        inputs = self._processor(images=list(images), return_tensors="pt").to(self._device)
        with torch.inference_mode():
            outputs = self._model(pixel_values=inputs["pixel_values"])
        found = self._processor.post_process_object_detection(
            outputs, threshold=MIN_SCORE, target_sizes=[image.shape[:2] for image in images]
        )
        return [len(each["scores"]) for each in found]


class UltralyticsDetector(Detector):
    """A model of ultralytics (AGPL-3.0), such as YOLOv5; never installed with this package."""

    def __init__(self, weights: str) -> None:
        compat.ensure_torchvision()
        try:
            from ultralytics import YOLO
        except ImportError as error:
            raise ExtractionError(
                f"detector {_ULTRALYTICS}{weights} needs ultralytics (AGPL-3.0): pip install ultralytics"
            ) from error
        self._model = YOLO(weights)
        super().__init__(f"{_ULTRALYTICS}{weights}", "not recorded")

    def _count(self, images: Sequence[NDArray[np.uint8]]) -> list[int]:
        bgr = [np.ascontiguousarray(image[:, :, ::-1]) for image in images]  # as ultralytics takes arrays
        return [len(result.boxes) for result in self._model(bgr, conf=MIN_SCORE, verbose=False)]


def make_detector(name: str | None, *, device: str = "cpu") -> Detector:
    """YOLOS by Hugging Face name or local path, or ``ultralytics:WEIGHTS``.

    Raises:
        ExtractionError: it cannot be loaded.
    """
    if name is not None and name.startswith(_ULTRALYTICS):
        return UltralyticsDetector(name.removeprefix(_ULTRALYTICS))
    return YolosDetector(name or DEFAULT, device=device)
