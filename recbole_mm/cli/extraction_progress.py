"""What an extraction looks like: a bar with rate and time left on a terminal, a line now and then in a log."""

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from recbole_mm.cli.console import make_console
from recbole_mm.extraction.pipeline import Row

_PAUSE_S = 10.0  # between the lines of a log
_SHOWN = 5  # of the reasons


class _Rate(TextColumn):
    """Sources a second."""

    def __init__(self) -> None:
        super().__init__("")

    def render(self, task: Task) -> Text:
        """As ``12.3/s``."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.1f}/s" if speed else "", style="progress.data.speed")


class Reporter:
    """Told by the pipeline how far it is; ``quiet`` in all processes but the leading one."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.console = make_console()
        self.console.quiet = quiet
        self._bars: Progress | None = None
        self._task: Any = None
        self._stage, self._total, self._done = "", 0, 0
        self._begun = self._spoken = 0.0

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._bars = Progress(
                TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn(),
                TextColumn("left"), console=self.console, transient=True,
            )  # fmt: skip
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None

    def say(self, text: str) -> None:
        """One line."""
        self.console.print(text, highlight=False, soft_wrap=True, markup=False)

    def stage(self, text: str) -> None:
        """What is being done, before there is a bar."""
        self.say(f"{text} ...")

    def begin(self, stage: str, total: int) -> None:
        """A bar for so many sources."""
        self._stage, self._total, self._done = stage, total, 0
        self._begun = self._spoken = time.monotonic()
        if self._bars is not None:
            if self._task is not None:
                self._bars.remove_task(self._task)
            self._task = self._bars.add_task(stage, total=total)

    def advance(self, count: int) -> None:
        """So many more are done."""
        self._done += count
        if self._bars is not None:
            self._bars.advance(self._task, count)
            return
        now = time.monotonic()
        if now - self._spoken >= _PAUSE_S and self._done:
            self._spoken = now
            rate = self._done / (now - self._begun)
            left = (self._total - self._done) / rate
            self.say(f"{self._stage} {self._done:,} of {self._total:,}  {rate:.1f}/s  {left:.0f} s left")

    def outcomes(self, rows: Sequence[Row], where: Path) -> None:
        """How many failed, were empty or are to be noted, the commonest reasons, and where all are."""
        if not rows:
            return
        kinds = Counter(row.outcome.kind for row in rows)
        said = ", ".join(f"{count} {kind if kind != 'encoded' else 'encoded with a note'}" for kind, count in
                         sorted(kinds.items()))  # fmt: skip
        self.say(f"{said}; all in {where}")
        for (kind, reason), count in Counter((r.outcome.kind, r.outcome.reason) for r in rows).most_common(_SHOWN):
            self.say(f"  {count} {kind}: {reason}")
