"""Multimodal recommendation for RecBole 1.2.1: ``run(model="MMFusion", dataset="imdb")``."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recbole_mm.comparison import compare
    from recbole_mm.quick_start import load, resume, run

__all__ = ["__version__", "compare", "load", "resume", "run"]
__version__ = "0.1.0"

_HOME = {"run": "quick_start", "resume": "quick_start", "load": "quick_start", "compare": "comparison"}


def __getattr__(name: str) -> Any:
    """Import torch and RecBole only when something needs them: ``--help`` and typing mistakes answer at once."""
    if name not in _HOME:
        raise AttributeError(f"module 'recbole_mm' has no attribute '{name}'")
    import importlib

    return getattr(importlib.import_module(f"recbole_mm.{_HOME[name]}"), name)
