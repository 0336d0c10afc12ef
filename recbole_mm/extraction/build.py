"""Encoders by name, and the encoder that a feature file was written with."""

import importlib
import inspect
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole_mm.errors import ExtractionError, nearest
from recbole_mm.extraction.encoder import Encoder

KINDS = {
    "bert": "bert:BertEncoder",
    "resnet": "resnet:ResNetEncoder",
    "clip": "clip:ClipEncoder",
    "timesformer": "timesformer:TimesformerEncoder",
    "resnet_frames": "resnet_frames:ResNetFramesEncoder",
    "wav2vec2": "wav2vec2:Wav2Vec2Encoder",
}


def build_encoder(kind: str, **settings: Any) -> Encoder:
    """The encoder of a kind with its settings; None stands for the default.

    Raises:
        ExtractionError: there is no such kind, or its settings do not fit.
    """
    if kind not in KINDS:
        raise ExtractionError(f"encoder '{kind}'{nearest(kind, KINDS)}; expected one of {', '.join(KINDS)}")
    module, name = KINDS[kind].split(":")
    loader = getattr(importlib.import_module(f"recbole_mm.extraction.{module}"), name)
    given = {key: value for key, value in settings.items() if value is not None}
    unknown = set(given) - set(inspect.signature(loader.__init__).parameters)
    if unknown:
        raise ExtractionError(f"{', '.join(sorted(unknown))}: not a setting of the {kind} encoder")
    encoder: Encoder = loader(**given)
    return encoder


def encoder_from_provenance(
    provenance: Mapping[str, str],
    *,
    checkpoint: str | Path | None = None,
    device: str = "cpu",
    precision: str = "float32",
) -> Encoder:
    """The encoder that wrote a feature file, to encode new items into the same space.

    Args:
        provenance: of the feature file: one that 'recbole-mm extract' wrote, or one of the shipped imdb files.
        checkpoint: local weights, where the provenance names a hub or a path that is elsewhere now.
        device: torch device.
        precision: ``float32`` or ``bfloat16``.

    Raises:
        ExtractionError: the provenance does not tell, or the weights are absent or other ones.
    """
    settings = _settings(provenance)
    if settings["kind"] == "genre":
        from recbole_mm.extraction.genre import GenreEncoder

        below = settings["base"]
        base = encoder_from_provenance(below, checkpoint=checkpoint, device=device, precision=precision)
        return GenreEncoder(base, provenance["checkpoint"], below)
    recorded = provenance.get("checkpoint", "")
    if checkpoint is not None:
        settings["checkpoint"] = str(checkpoint)
    elif not recorded.startswith("torchvision "):
        settings["checkpoint"] = recorded
    encoder = build_encoder(**settings, device=device, precision=precision)
    before, now = provenance.get("revision", ""), encoder.card.revision
    if before != now and before.startswith("sha256:") and now.startswith("sha256:"):
        raise ExtractionError(
            f"checkpoint {encoder.card.checkpoint}: weights {now}, but the features were made with {before}; "
            "expected the same weights: their vectors would not be comparable"
        )
    return encoder


def _settings(provenance: Mapping[str, str]) -> dict[str, Any]:
    if "settings" not in provenance:
        return _described(provenance)
    try:
        settings = json.loads(provenance["settings"])
    except ValueError:
        settings = None
    if not isinstance(settings, dict) or "kind" not in settings:
        raise ExtractionError(f"settings {provenance['settings']!r} of the feature file; expected what extract wrote")
    return settings


def _described(provenance: Mapping[str, str]) -> dict[str, Any]:
    """Settings of a feature file that says in words how it was made, as the shipped ones do."""
    encoder = provenance.get("encoder", "")
    pooling = provenance.get("pooling", "").lower()
    preprocessing = provenance.get("preprocessing", "")
    if "bert" in encoder.lower():
        tokens = re.search(r"at most (\d+) tokens", preprocessing)
        return {
            "kind": "bert",
            "pooling": "mean" if "mean" in pooling else "cls",
            "normalise": "normalised" in pooling,
            "max_tokens": int(tokens[1]) if tokens else None,
        }
    backbone = re.match(r"torchvision (\w+)", encoder)
    if backbone:
        stretched = re.search(r"resized to (\d+)x\1\b.*\[-1, 1\]", preprocessing)
        return {
            "kind": "resnet",
            "arch": _torchvision_name(backbone[1]),
            "stretch_px": int(stretched[1]) if stretched else None,
        }
    raise ExtractionError(
        f"features of encoder '{encoder or 'not stated'}': what made them is not known here; expected a file "
        "that 'recbole-mm extract' wrote"
    )


def _torchvision_name(written: str) -> str:
    """``MobileNetV2`` is torchvision's ``mobilenet_v2``."""
    from recbole_mm import compat

    compat.ensure_torchvision()
    from torchvision import models

    plain = written.replace("_", "").lower()
    return next((name for name in models.list_models(module=models) if name.replace("_", "") == plain), written)
