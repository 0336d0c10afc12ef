"""Items that came after training: their facts and vectors, kept beside the run, and scored without retraining."""

import csv
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from recbole_mm.errors import CheckpointError, DataError, FeatureError, nearest
from recbole_mm.features import Features, align, open_feature_file, write_feature_file
from recbole_mm.files import write_text
from recbole_mm.modality import first_problem
from recbole_mm.model.scoring import NewItems
from recbole_mm.recommend.store import ADDED

ROWS = "items.json"
MAX_ADDED = 20_000
_SYNONYMS = {
    "genres": ("genres", "genre", "class", "categories"),
    "year": ("year", "release_year", "movie_year"),
    "title": ("title", "movie_title", "name"),
}


class Row(BaseModel):
    """One new item: its token, what people read, and every column of the file it came from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    token: str
    title: str
    year: int | None
    genres: tuple[str, ...]
    cells: Mapping[str, str]


class Rows(BaseModel):
    """``added/items.json``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Added:
    """The new items of a run, and their feature files by modality."""

    rows: tuple[Row, ...]
    features: Mapping[str, Features]

    def new_items(self, dataset: Any) -> NewItems:
        """Their vectors by the data set's modalities; facts are encoded as the data set's are.

        Raises:
            FeatureError: a vector has another width than the data set's.
        """
        from recbole_mm.modality import parse_modalities

        vectors, masks = {}, {}
        tokens = ["[PAD]", *(row.token for row in self.rows)]
        for name, spec in parse_modalities(dataset.config["modalities"]).items():
            width = dataset.modality(name).width
            vectors[name], masks[name] = np.zeros((len(self.rows), width), np.float32), np.zeros(len(self.rows), bool)
            if spec.field is not None:
                vectors[name], masks[name] = self._facts(dataset, spec)
            elif name in self.features:
                aligned = align(self.features[name], tokens)
                if aligned.width != width:
                    raise FeatureError(f"modality '{name}' of new items has width {aligned.width}; expected {width}")
                vectors[name] = aligned.matrix()[1:].astype(np.float32)
                masks[name] = aligned.mask[1:]
        return NewItems(vectors, masks)

    def _facts(self, dataset: Any, spec: Any) -> tuple[Any, Any]:
        from recbole_mm.data.facts import encode_new_cells

        separator = dataset.config["seq_separator"]
        cells = [_fact(row, str(spec.field), separator) for row in self.rows]
        path = Path(dataset.dataset_path) / f"{dataset.dataset_name}.item"
        return encode_new_cells(path, dataset.iid_field, spec, dataset.config, cells)


def _fact(row: Row, field: str, separator: str) -> str:
    """A cell of the new item's own column of that name, or of one that means the same."""
    if field in row.cells:
        return row.cells[field].replace("|", separator)
    if field in _SYNONYMS["genres"]:
        return separator.join(row.genres)
    if field in _SYNONYMS["year"] and row.year is not None:
        return str(row.year)
    return ""


def read_added(run_dir: Path) -> Added | None:
    """The run's new items; None if it has none.

    Raises:
        CheckpointError: the folder is not readable, or was tampered with.
    """
    folder = run_dir / ADDED
    if not (folder / ROWS).is_file():
        return None
    try:
        rows = Rows.model_validate_json((folder / ROWS).read_bytes()).rows
    except (OSError, ValidationError) as error:
        problem = first_problem(error) if isinstance(error, ValidationError) else str(error)
        raise CheckpointError(f"{folder / ROWS}: {problem}; remove {folder} and add the items again") from error
    features = {path.name.split(".")[0]: open_feature_file(path) for path in sorted(folder.glob("*.safetensors"))}
    return Added(rows, features)


def read_rows(path: Path, known: set[str]) -> tuple[Row, ...]:
    """New items from a CSV file with a header: ``item_id``, ``title``, and any of ``year``, ``genres`` and others.

    Genres are separated by ``|``, or by commas.

    Raises:
        DataError: no such file or column, an empty or repeated id, or one that the data set has already.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = list(csv.DictReader(file, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as CSV ({error})") from error
    if not table:
        raise DataError(f"{path}: no rows; expected a header and a line an item")
    if "item_id" not in table[0]:
        raise DataError(f"{path}: no column 'item_id' (columns: {', '.join(map(str, table[0]))})")
    if len(table) > MAX_ADDED:
        raise DataError(f"{path}: {len(table)} items; expected at most {MAX_ADDED}: train again with them instead")
    rows: list[Row] = []
    taken = set(known)
    for number, raw in enumerate(table, start=2):
        row = _row({str(key): (cell or "").strip() for key, cell in raw.items() if key}, f"{path}, line {number}")
        if row.token in taken:
            raise DataError(f"{path}, line {number}: item '{row.token}' is in the catalogue already")
        taken.add(row.token)
        rows.append(row)
    return tuple(rows)


def unknown_genres(rows: Sequence[Row], known: Iterable[Sequence[str]]) -> list[str]:
    """One line for every genre of new items that no film of the catalogue has: it has no place in their vectors."""
    genres = {genre for film in known for genre in film}
    return [
        f"genre '{genre}' of '{row.token}' is no film's of the data set; it is left out{nearest(genre, genres)}"
        for row in rows
        for genre in row.genres
        if genres and genre not in genres
    ]


def _row(cells: dict[str, str], where: str) -> Row:
    token = cells["item_id"]
    if not token or any(c.isspace() for c in token):
        raise DataError(f"{where}: item_id '{token}'; expected a word")
    first = {kind: next((cells[n] for n in names if cells.get(n)), "") for kind, names in _SYNONYMS.items()}
    if first["year"] and not (first["year"].isdigit() and len(first["year"]) == 4):
        raise DataError(f"{where}: year '{first['year']}'; expected four digits, or nothing")
    split = first["genres"].replace(",", "|").split("|")
    genres = tuple(g.strip() for g in split if g.strip())
    return Row(
        token=token, title=first["title"] or token, year=int(first["year"]) if first["year"] else None, genres=genres,
        cells=cells,
    )  # fmt: skip


def add(run_dir: Path, rows: tuple[Row, ...], features: Mapping[str, Features]) -> None:
    """Put new items beside the run and make its ``serving`` folder anew: both, or neither.

    Raises:
        RecBoleMMError: the model cannot score new items, or the folder cannot be written.
    """
    from recbole_mm.recommend.export import export

    old, folder = read_added(run_dir), run_dir / ADDED
    with tempfile.TemporaryDirectory(dir=run_dir, prefix=f".{ADDED}.") as name:
        new, kept = Path(name) / "new", Path(name) / "old"
        new.mkdir()
        for modality, part in _merged({} if old is None else old.features, features).items():
            write_feature_file(new / f"{modality}.safetensors", part)
        everything = Rows(rows=((*old.rows, *rows) if old else rows))
        write_text(new / ROWS, everything.model_dump_json(indent=1) + "\n")
        if folder.exists():
            folder.replace(kept)
        new.replace(folder)
        try:
            export(run_dir)
        except BaseException:
            folder.replace(Path(name) / "failed")
            if kept.exists():
                kept.replace(folder)
            raise


def _merged(old: Mapping[str, Features], new: Mapping[str, Features]) -> dict[str, Features]:
    merged = dict(old)
    for name, part in new.items():
        before = merged.get(name)
        if before is None:
            merged[name] = part
        else:
            vectors = np.concatenate([np.asarray(before.vectors, dtype=np.float32), part.vectors])
            merged[name] = Features(vectors, (*before.tokens, *part.tokens), part.provenance, name)
    return merged
