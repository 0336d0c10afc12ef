"""From raw media to feature files. Imports neither RecBole nor a model; torch only when an encoder is built."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recbole_mm.extraction.build import build_encoder, encoder_from_provenance
    from recbole_mm.extraction.encoder import Encoded, Encoder

__all__ = ["Encoded", "Encoder", "build_encoder", "encoder_from_provenance"]


def __getattr__(name: str) -> Any:
    if name in {"build_encoder", "encoder_from_provenance"}:
        from recbole_mm.extraction import build as module
    elif name in {"Encoded", "Encoder"}:
        from recbole_mm.extraction import encoder as module  # type: ignore[no-redef]
    else:
        raise AttributeError(name)
    return getattr(module, name)
