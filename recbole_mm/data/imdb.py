"""The ``imdb`` data set: MovieLens-100K as RecBole's wheel bundles it, beside the shipped features of its films.

MovieLens may not be redistributed, so its ratings are not in the repository: they are copied from the installed
RecBole on first use. Ratings, titles, years and genres are GroupLens's (Harper & Konstan, TiiS 2015).
"""

import shutil
from pathlib import Path

from recbole_mm.errors import DataError
from recbole_mm.files import replacing
from recbole_mm.resources import movielens_in_recbole, shipped

NAME = "imdb"


def build(folder: Path) -> bool:
    """Write ``imdb.inter``, ``.item``, ``.user``, ``.kg``, ``.link`` and the features where they are absent.

    Returns:
        True if the interactions were written now.

    Raises:
        DataError: RecBole's copy of MovieLens-100K is not where its wheel puts it, or the folder is not writable.
    """
    try:
        for features in shipped(f"dataset/{NAME}").glob("*.safetensors"):
            _copy(features, folder / features.name)
        built = not (folder / f"{NAME}.inter").is_file()
        if built:
            # the interactions last: their presence says that the rest is there
            for suffix in ("item", "user", "kg", "link", "inter"):
                _copy(movielens_in_recbole() / f"ml-100k.{suffix}", folder / f"{NAME}.{suffix}")
    except OSError as error:
        raise DataError(
            f"{folder}: cannot be written ({error.strerror}); choose another place by --data_path"
        ) from error
    return built


def _copy(source: Path, target: Path) -> None:
    if target.exists():
        return
    with replacing(target) as temporary:
        shutil.copyfile(source, temporary)
