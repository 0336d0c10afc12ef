"""Video: ResNet-50, or another torchvision backbone, averaged over the keyframes of a trailer."""

from dataclasses import replace
from pathlib import Path

from PIL import Image

from recbole_mm.extraction.encoder import Prepared, Source, Unit
from recbole_mm.extraction.keyframes import Keyframes, choose
from recbole_mm.extraction.resnet import ResNetEncoder

DEFAULT_FRAMES = 16


class ResNetFramesEncoder(ResNetEncoder):
    """``vector = mean over keyframes of the image vector``, [N, F]; see :class:`ResNetEncoder`.

    Args:
        arch: name in ``torchvision.models``.
        checkpoint: local state dict.
        weights: torchvision's weights.
        stretch_px: instead of the weights' transforms.
        frames: keyframes.
        keyframes: strategy, see :mod:`recbole_mm.extraction.keyframes`.
        scene_detector: of PySceneDetect.
        detector: of objects.
        object_fps: frames a second that the detector sees.
        device: torch device.
        precision: ``float32``, ``bfloat16``, or ``int8`` with ``quantised``.
        engine: ``torch``, or ``openvino`` on the processor.
        quantised: for OpenVINO, the network in 8-bit integers.

    Raises:
        ExtractionError: there is no such backbone, or the checkpoint is not one of it.
    """

    block_size = 8

    def __init__(
        self,
        arch: str = "resnet50",
        *,
        checkpoint: str | None = None,
        weights: str | None = None,
        stretch_px: int | None = None,
        frames: int | None = None,
        keyframes: str = "uniform",
        scene_detector: str = "content",
        detector: str | None = None,
        object_fps: float = 2.0,
        device: str = "cpu",
        precision: str = "float32",
        engine: str = "torch",
        quantised: Path | None = None,
    ) -> None:
        super().__init__(
            arch, checkpoint=checkpoint, weights=weights, stretch_px=stretch_px, device=device, precision=precision,
            engine=engine, quantised=quantised,
        )  # fmt: skip
        n = frames or DEFAULT_FRAMES
        self.keyframes: Keyframes = choose(
            n, keyframes, scene_detector=scene_detector, detector=detector, object_fps=object_fps, device=device
        )
        self.card = replace(
            self.card,
            modality="video",
            pooling=f"{self.card.pooling}, mean over keyframes",
            preprocessing=f"{self.keyframes}; {self.card.preprocessing}",
            settings={**self.card.settings, "kind": "resnet_frames", **self.keyframes.settings()},
            frames=n,
            libraries=(*self.card.libraries, "av"),
        )

    def prepare(self, source: Source) -> Prepared:
        """The pixels of each keyframe."""
        notes: list[str] = []
        frames = self.keyframes.frames(Path(source), notes)
        units = tuple(Unit(self.preprocessing.pixels(Image.fromarray(frame.image))) for frame in frames)
        return Prepared(units, "; ".join(notes))
