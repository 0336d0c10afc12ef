"""Recommending to a person: ``Recommender.load(run_dir).recommend(watched={"Toy Story (1995)": 5})``."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recbole_mm.recommend.recommender import Recommender

__all__ = ["Recommender"]


def __getattr__(name: str) -> Any:
    """Import what recommends only when it is asked for: the command line's help does not need it."""
    if name != "Recommender":
        raise AttributeError(f"module 'recbole_mm.recommend' has no attribute '{name}'")
    from recbole_mm.recommend.recommender import Recommender

    return Recommender
