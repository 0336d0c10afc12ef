"""Putting an imported data set in its place: whole or not at all, and never over another one unasked."""

import filecmp
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from recbole_mm.errors import DataError
from recbole_mm.importers.report import METADATA_REPORT, REPORT, ImportReport, digest

_RESERVED = {"imdb", "ml-100k"}  # what the package builds itself, and what RecBole reads from its own wheel
_LOCK = "lock"  # held in an import's working folder for as long as it runs; the system frees it if it is killed
_ATOMIC = {".inter", ".item", ".user", ".kg", ".link", ".net"}


def check_name(name: str) -> None:
    """Refuse a name that cannot be a data set's.

    Raises:
        DataError: it is reserved, or not a plain word.
    """
    if name in _RESERVED:
        raise DataError(f"data set name '{name}' is taken by a built-in data set; choose another by --name")
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]*", name):
        raise DataError(f"data set name '{name}': expected letters, digits, _ and -; choose another by --name")


def put(folder: Path, report: ImportReport, build: Callable[[Path], None], *, replace: bool) -> str:
    """Build a data set beside ``folder`` and let it take the place when it is whole.

    Args:
        folder: ``data_path/<name>``.
        report: filled by ``build``; written last.
        build: writes every file into the folder that it is given.
        replace: whether another data set may be replaced; files that no import wrote (added features) stay.

    Returns:
        ``"written"``, ``"unchanged"`` (it is there already, byte for byte) or ``"replaced"``.

    Raises:
        DataError: another data set is there and ``replace`` is false, or it cannot be written.
    """
    check_name(report.name)
    _recover(folder)
    if folder.exists() and not replace:
        _refuse_another(folder, report)
    folder.parent.mkdir(parents=True, exist_ok=True)
    working = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.importing-"))
    try:
        with FileLock(working / _LOCK):
            staging = working / folder.name
            staging.mkdir()
            build(staging)
            report.files = [f.name for f in staging.iterdir()]
            (staging / REPORT).write_text(report.text(), encoding="utf-8")
            return _take_place(staging, folder, replace)
    finally:
        shutil.rmtree(working, ignore_errors=True)


def _take_place(staging: Path, folder: Path, replace: bool) -> str:
    if not folder.exists():
        staging.rename(folder)
        return "written"
    names = [f.name for f in staging.iterdir()]
    before = {} if replace else _read_report(folder / METADATA_REPORT).get("before") or {}
    differ = [n for n in names if not _same(staging / n, folder / n, before.get(n))]
    if not differ:
        return "unchanged"
    if not replace:
        raise DataError(
            f"{folder}: holds another data set (different: {', '.join(sorted(differ))}); --replace replaces it, "
            "--name writes beside it"
        )
    ours = {*names, *_read_report(folder / REPORT).get("files", ()), REPORT, METADATA_REPORT}
    for old in folder.iterdir():
        if old.name not in ours and old.suffix not in _ATOMIC:
            _keep(old, staging / old.name)
    previous = _previous(folder)
    folder.rename(previous)
    staging.rename(folder)
    shutil.rmtree(previous)
    return "replaced"


def _same(new: Path, old: Path, before: str | None) -> bool:
    """Whether the file is there already, or was before metadata filled its cells."""
    if not old.is_file():
        return False
    return filecmp.cmp(new, old, shallow=False) or (before is not None and digest(new) == before)


def _keep(old: Path, new: Path) -> None:
    """The same file in the new folder; linked, so that a run that has it open is not disturbed."""
    if old.is_dir():
        shutil.copytree(old, new, symlinks=True)
        return
    try:
        os.link(old, new, follow_symlinks=False)
    except OSError:  # a file system without links
        shutil.copy2(old, new, follow_symlinks=False)


def _previous(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.previous")


def _recover(folder: Path) -> None:
    """Undo what an import that was killed left behind."""
    previous = _previous(folder)
    if previous.exists():
        if folder.exists():
            shutil.rmtree(previous)
        else:
            previous.rename(folder)
    for working in folder.parent.glob(f".{folder.name}.importing-*"):
        lock = FileLock(working / _LOCK, timeout=0)
        try:
            lock.acquire()
        except Timeout:
            continue  # another import is at work there
        lock.release()  # Windows removes no file that is open
        shutil.rmtree(working)


def _refuse_another(folder: Path, report: ImportReport) -> None:
    """Refuse before the work is done where the folder is plainly of another origin."""
    found = _read_report(folder / REPORT)
    if found.get("kind") == report.kind and found.get("options") == report.options:
        return
    what = f"a data set of kind '{found['kind']}', or imported with other options" if "kind" in found else "another one"
    raise DataError(f"{folder}: holds {what}; --replace replaces it, --name writes beside it")


def _read_report(path: Path) -> dict[str, Any]:
    """An import's report, or nothing where there is none that can be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
