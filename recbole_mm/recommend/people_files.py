"""Files that people bring: a table with other ids of the films, and a folder of posters."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from recbole_mm.errors import DataError

_TYPES = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".webp": "image/webp"}


@dataclass(frozen=True)
class FilmTable:
    """Other ids of films, to their tokens; and the poster's file name by token."""

    aliases: Mapping[str, str] = field(default_factory=dict)
    posters: Mapping[str, str] = field(default_factory=dict)


def read_film_table(path: Path) -> FilmTable:
    """A CSV file with a column ``item_id``; every other column that ends in ``_id`` holds another id of the film.

    A column ``poster`` names the poster's file.

    Raises:
        DataError: the file cannot be read, or has no column ``item_id``.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            columns = list(reader.fieldnames or ())
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as CSV ({error})") from error
    if "item_id" not in columns:
        raise DataError(f"{path}: no column 'item_id' (columns: {', '.join(columns) or 'none'})")
    others = [c for c in columns if c.endswith("_id") and c != "item_id"]
    aliases = {row[c]: row["item_id"] for c in others for row in rows if row[c]}
    posters = {row["item_id"]: Path(row["poster"]).name for row in rows if row.get("poster")}
    return FilmTable(aliases, posters)


class Posters:
    """The images of one folder, by film; nothing outside it is ever opened.

    Args:
        folder: where the images are, named by token, by another id, or as the film table says.
        table: other ids and file names.

    Raises:
        DataError: there is no such folder.
    """

    def __init__(self, folder: Path, table: FilmTable) -> None:
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder; expected one with posters")
        self.folder = folder.resolve()
        # listed once: what a request names is looked up here, and never joined to a path
        self._files = {
            p.name: p for p in sorted(self.folder.iterdir()) if p.suffix.lower() in _TYPES and self._inside(p)
        }
        by_stem = {p.stem: name for name, p in self._files.items()}
        self._by_token = {token: name for token, name in table.posters.items() if name in self._files}
        for alias, token in table.aliases.items():
            if alias in by_stem:
                self._by_token.setdefault(token, by_stem[alias])
        self._by_stem = by_stem

    def _inside(self, path: Path) -> bool:
        """A regular file of the folder itself: a link that leads out of it is not served."""
        return path.is_file() and path.resolve().parent == self.folder

    def of(self, token: str) -> tuple[Path, str] | None:
        """Path and media type of a film's poster; None if it has none."""
        name = self._by_token.get(token) or self._by_stem.get(token)
        if name is None:
            return None
        return self._files[name], _TYPES[self._files[name].suffix.lower()]

    def __len__(self) -> int:
        return len(self._files)
