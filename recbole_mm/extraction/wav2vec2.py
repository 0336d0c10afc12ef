"""Audio: wav2vec 2.0, its convolutional features or its last hidden state, averaged over time.

Baevski et al., "wav2vec 2.0: A Framework for Self-Supervised Learning of Speech Representations", NeurIPS 2020.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from recbole_mm import compat
from recbole_mm.errors import ExtractionError
from recbole_mm.extraction.audio import MAX_S, as_float, read_chunks
from recbole_mm.extraction.encoder import Card, Encoder, ItemError, Prepared, Source, Unit
from recbole_mm.extraction.weights import from_pretrained, licence, load_model, resolved_revision

DEFAULT = "facebook/wav2vec2-base"
CHUNK_S = 10.0
LAYERS = ("conv", "last")


class Wav2Vec2Encoder(Encoder):
    """``vector = sum_c s_c f_c / sum_c s_c`` over chunks c of s_c samples; [N, 512], or [N, hidden size].

    f_c is the mean over time of the convolutional features as the feature projection normalises them (``conv``), or
    of the transformer's last hidden state (``last``). Samples are scaled to mean 0 and variance 1 by chunk where the
    checkpoint's feature extractor says so.

    Args:
        checkpoint: Hugging Face name, or local folder; also HuBERT and WavLM.
        revision: commit on the hub.
        layer: ``conv`` or ``last``.
        chunk_s: seconds a chunk.
        device: torch device.
        precision: ``float32`` or ``bfloat16``.

    Raises:
        ExtractionError: the checkpoint cannot be used.
    """

    batch_size = 4
    block_size = 4
    equal_sizes = True  # padding would be heard

    def __init__(
        self,
        checkpoint: str = DEFAULT,
        *,
        revision: str | None = None,
        layer: str = "conv",
        chunk_s: float = CHUNK_S,
        device: str = "cpu",
        precision: str = "float32",
    ) -> None:
        compat.ensure_torchvision()
        from transformers import AutoFeatureExtractor, AutoModel

        if layer not in LAYERS:
            raise ExtractionError(f"layer '{layer}'; expected {' or '.join(LAYERS)}")
        extractor = from_pretrained(AutoFeatureExtractor, checkpoint, revision)
        model = load_model(AutoModel, checkpoint, revision, optional=("masked_spec_embed",))
        if not hasattr(model, "feature_extractor") or not hasattr(model, "feature_projection"):
            raise ExtractionError(f"checkpoint {checkpoint}: {type(model).__name__}; expected wav2vec 2.0")
        config = model.config
        self._layer, self._chunk_s = layer, chunk_s
        self._rate_hz = int(extractor.sampling_rate)
        self._normalise = bool(extractor.do_normalize)
        self._least = _receptive_field(config.conv_kernel, config.conv_stride)
        card = Card(
            modality="audio",
            encoder=f"{type(model).__name__} ({config.num_hidden_layers} layers, {config.hidden_size})",
            checkpoint=checkpoint,
            revision=resolved_revision(checkpoint, model),
            licence=licence(checkpoint),
            width=int(config.conv_dim[-1] if layer == "conv" else config.hidden_size),
            pooling="mean over time of "
            + ("the convolutional features" if layer == "conv" else "the last hidden state"),
            preprocessing=f"first sound track, mono, {self._rate_hz} Hz, chunks of {chunk_s:g} s, at most {MAX_S:g} s",
            settings={"kind": "wav2vec2", "layer": layer, "chunk_s": chunk_s},
            sample_rate_hz=self._rate_hz,
            libraries=("torch", "transformers", "av"),
        )
        super().__init__(card, model, device=device, precision=precision)

    def prepare(self, source: Source) -> Prepared:
        """Chunks of samples, int16."""
        chunks, note = read_chunks(Path(source), self._rate_hz, self._chunk_s)
        if len(chunks[0]) < self._least:
            raise ItemError(f"{len(chunks[0])} samples of sound; at least {self._least} are needed")
        return Prepared(tuple(Unit(chunk, len(chunk), float(len(chunk))) for chunk in chunks), note)

    def forward(self, units: Sequence[Unit]) -> torch.Tensor:
        """Mean over time, [B, F]."""
        samples = torch.from_numpy(np.stack([as_float(unit.data) for unit in units])).to(self.device)
        if self._normalise:
            mean, variance = samples.mean(1, keepdim=True), samples.var(1, keepdim=True, correction=0)
            samples = (samples - mean) / torch.sqrt(variance + 1e-7)
        samples = samples.to(self.dtype)
        if self._layer == "last":
            states = self.model(samples).last_hidden_state
        else:
            features = self.model.feature_extractor(samples).transpose(1, 2)  # type: ignore[operator]
            states = self.model.feature_projection.layer_norm(features)  # type: ignore[operator,union-attr]
        return torch.as_tensor(states.float().mean(1))


def _receptive_field(kernels: Sequence[int], strides: Sequence[int]) -> int:
    """Samples that one output of the convolutions sees."""
    field, jump = 1, 1
    for kernel, stride in zip(kernels, strides, strict=True):
        field += (kernel - 1) * jump
        jump *= stride
    return field
