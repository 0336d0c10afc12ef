"""Where the shipped property files and feature files are: inside a wheel, or at the root of a checkout."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def shipped(relative: str) -> Path:
    """Path of a shipped file or folder such as ``properties/model/MMFusion.yaml``; it need not exist."""
    inside = _PACKAGE / relative
    return inside if inside.exists() else _PACKAGE.parent / relative
