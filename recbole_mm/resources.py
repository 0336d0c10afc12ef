"""Where the shipped property files and feature files are: inside a wheel, or at the root of a checkout."""

import importlib.util
from pathlib import Path

from recbole_mm.errors import DataError

_PACKAGE = Path(__file__).resolve().parent


def shipped(relative: str) -> Path:
    """Path of a shipped file or folder such as ``properties/model/MMFusion.yaml``; it need not exist."""
    inside = _PACKAGE / relative
    return inside if inside.exists() else _PACKAGE.parent / relative


def movielens_in_recbole() -> Path:
    """The folder of MovieLens-100K in RecBole's wheel; RecBole is not imported.

    Raises:
        DataError: RecBole's copy of MovieLens-100K is not where its wheel puts it.
    """
    spec = importlib.util.find_spec("recbole")
    if spec is None or spec.origin is None:
        raise DataError("RecBole is not installed; 'pip install recbole==1.2.1' brings MovieLens-100K")
    folder = Path(spec.origin).parent / "dataset_example" / "ml-100k"
    if not (folder / "ml-100k.inter").is_file():
        raise DataError(f"{folder}: RecBole's copy of MovieLens-100K is not there; reinstall recbole==1.2.1")
    return folder
