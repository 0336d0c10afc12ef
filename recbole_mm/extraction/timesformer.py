"""Video: TimeSformer over the keyframes of a trailer.

Bertasius et al., "Is Space-Time Attention All You Need for Video Understanding?", ICML 2021.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from recbole_mm import compat
from recbole_mm.errors import ExtractionError
from recbole_mm.extraction.encoder import Card, Encoder, Prepared, Source, Unit
from recbole_mm.extraction.keyframes import Keyframes, choose
from recbole_mm.extraction.weights import from_pretrained, licence, load_model, resolved_revision

DEFAULT = "facebook/timesformer-base-finetuned-k600"


class TimesformerEncoder(Encoder):
    """``vector = mean over clips of the class token's last state``, [N, F].

    A clip is as many keyframes, in order, as the checkpoint takes (``num_frames``); ``frames`` is a multiple of it.
    Where a trailer has fewer, each is repeated.

    Args:
        checkpoint: Hugging Face name, or local folder.
        revision: commit on the hub.
        frames: keyframes; by default one clip of them.
        keyframes: strategy, see :mod:`recbole_mm.extraction.keyframes`.
        scene_detector: of PySceneDetect.
        detector: of objects.
        object_fps: frames a second that the detector sees.
        device: torch device.
        precision: ``float32`` or ``bfloat16``.

    Raises:
        ExtractionError: the checkpoint cannot be used, or ``frames`` is no multiple of its clip.
    """

    batch_size = 4
    block_size = 8

    def __init__(
        self,
        checkpoint: str = DEFAULT,
        *,
        revision: str | None = None,
        frames: int | None = None,
        keyframes: str = "uniform",
        scene_detector: str = "content",
        detector: str | None = None,
        object_fps: float = 2.0,
        device: str = "cpu",
        precision: str = "float32",
    ) -> None:
        compat.ensure_torchvision()
        from transformers import AutoImageProcessor, TimesformerModel

        self._processor = from_pretrained(AutoImageProcessor, checkpoint, revision)
        model = load_model(TimesformerModel, checkpoint, revision)
        config = model.config
        self._clip = int(config.num_frames)
        n = frames or self._clip
        if n % self._clip:
            raise ExtractionError(f"{n} keyframes; expected a multiple of {self._clip}, the clip of {checkpoint}")
        self.keyframes: Keyframes = choose(
            n, keyframes, scene_detector=scene_detector, detector=detector, object_fps=object_fps, device=device
        )
        card = Card(
            modality="video",
            encoder=f"TimeSformer ({config.num_hidden_layers} layers, {config.hidden_size})",
            checkpoint=checkpoint,
            revision=resolved_revision(checkpoint, model),
            licence=licence(checkpoint),
            width=int(config.hidden_size),
            pooling=f"class token, mean over {n // self._clip} clips of {self._clip} frames",
            preprocessing=f"{self.keyframes}; {config.image_size} px by {type(self._processor).__name__}",
            settings={"kind": "timesformer", **self.keyframes.settings()},
            frames=n,
            libraries=("torch", "torchvision", "transformers", "av"),
        )
        super().__init__(card, model, device=device, precision=precision)

    def prepare(self, source: Source) -> Prepared:
        """Clips of preprocessed keyframes, float32 [T, 3, H, W] each."""
        notes: list[str] = []
        frames = [self._pixels(frame.image) for frame in self.keyframes.frames(Path(source), notes)]
        n = self.keyframes.n
        rows = (np.arange(n) * len(frames)) // n
        clips = [np.stack([frames[row] for row in rows[i : i + self._clip]]) for i in range(0, n, self._clip)]
        return Prepared(tuple(Unit(clip) for clip in clips), "; ".join(notes))

    def _pixels(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        pixels = self._processor([[image]], return_tensors="pt")["pixel_values"]
        return np.asarray(pixels[0, 0].numpy(), dtype=np.float32)

    def forward(self, units: Sequence[Unit]) -> torch.Tensor:
        """State of the class token, [B, F]."""
        clips = torch.from_numpy(np.stack([unit.data for unit in units])).to(self.device, self.dtype)
        return torch.as_tensor(self.model(pixel_values=clips).last_hidden_state[:, 0])
