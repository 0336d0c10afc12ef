"""What an import read, what it kept, and what it dropped and why: ``import_report.json``."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REPORT = "import_report.json"
METADATA_REPORT = "metadata_report.json"


@dataclass(frozen=True)
class Dropped:
    """Rows that were left out for one reason."""

    reason: str
    rows: int
    first_row: int  # 1 is the first row after the header

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"reason": self.reason, "rows": self.rows, "first_row": self.first_row}


@dataclass(frozen=True)
class TableReport:
    """What became of the rows of one raw file."""

    file: str
    rows: int
    kept: int
    dropped: tuple[Dropped, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "file": self.file,
            "rows": self.rows,
            "kept": self.kept,
            "dropped": [d.as_dict() for d in self.dropped],
        }


@dataclass
class ImportReport:
    """The whole import; without times and absolute paths, so that the same source gives the same bytes."""

    kind: str
    name: str
    options: dict[str, Any] = field(default_factory=dict)
    tables: list[TableReport] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    modalities: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    before: dict[str, str] = field(default_factory=dict)  # of metadata: digests of the files that it changed

    def text(self) -> str:
        """JSON, with the keys in this class's order."""
        content = {**vars(self), "tables": [t.as_dict() for t in self.tables], "files": sorted(self.files)}
        if not self.before:
            del content["before"]
        return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
