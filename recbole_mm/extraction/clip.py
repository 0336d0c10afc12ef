"""Images: the image tower of CLIP, by name or local path.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from recbole_mm import compat
from recbole_mm.extraction.encoder import Card, Encoder, Prepared, Source, Unit
from recbole_mm.extraction.images import open_rgb
from recbole_mm.extraction.weights import from_pretrained, licence, load_model, resolved_revision

DEFAULT = "openai/clip-vit-base-patch32"


class ClipEncoder(Encoder):
    """``vector = W pooled``: the projected state of the class token, [N, F], not normalised.

    Args:
        checkpoint: Hugging Face name, or local folder.
        revision: commit on the hub.
        device: torch device.
        precision: ``float32`` or ``bfloat16``.

    Raises:
        ExtractionError: the checkpoint cannot be used.
    """

    batch_size = 32
    block_size = 128

    def __init__(
        self,
        checkpoint: str = DEFAULT,
        *,
        revision: str | None = None,
        device: str = "cpu",
        precision: str = "float32",
    ) -> None:
        compat.ensure_torchvision()
        from transformers import AutoImageProcessor, CLIPVisionModelWithProjection

        self._processor = from_pretrained(AutoImageProcessor, checkpoint, revision)
        model = load_model(CLIPVisionModelWithProjection, checkpoint, revision)
        config = model.config
        card = Card(
            modality="image",
            encoder=f"CLIP image tower ({config.num_hidden_layers} layers, {config.projection_dim})",
            checkpoint=checkpoint,
            revision=resolved_revision(checkpoint, model),
            licence=licence(checkpoint),
            width=int(config.projection_dim),
            pooling="projected class token",
            preprocessing=f"{type(self._processor).__name__} of the checkpoint, {config.image_size} px",
            settings={"kind": "clip"},
            libraries=("torch", "torchvision", "transformers", "pillow"),
        )
        super().__init__(card, model, device=device, precision=precision)

    def prepare(self, source: Source) -> Prepared:
        """The checkpoint's own preprocessing."""
        image, note = open_rgb(Path(source))
        pixels = self._processor(images=image, return_tensors="np")["pixel_values"][0]
        return Prepared((Unit(np.asarray(pixels, np.float32)),), note)

    def forward(self, units: Sequence[Unit]) -> torch.Tensor:
        """Image embeddings, [B, F]."""
        pixels = torch.from_numpy(np.stack([unit.data for unit in units])).to(self.device, self.dtype)
        return torch.as_tensor(self.model(pixel_values=pixels).image_embeds)
