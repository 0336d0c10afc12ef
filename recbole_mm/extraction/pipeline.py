"""From items to vectors: decode workers ahead of the encoder, blocks that are saved as they are finished.

What is in a block, and in which batch, depends on the items alone: not on what a killed run had finished, nor on how
many processes share the work. Hence the same items give the same bytes.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from recbole_mm.errors import ExtractionError
from recbole_mm.extraction.cache import EMPTY, FAILED, NOTE, Cache, Known, Outcome, content_key
from recbole_mm.extraction.encoder import LOST, Encoder, ItemError, NothingToEncode, Prepared, Source
from recbole_mm.extraction.images import file_size
from recbole_mm.extraction.items import Item
from recbole_mm.extraction.world import World
from recbole_mm.features import Segments


class Progress(Protocol):
    """Who is told how far it is."""

    def begin(self, stage: str, total: int) -> None:
        """A stage begins."""

    def advance(self, count: int) -> None:
        """So many more are done."""


class Quiet:
    """Nobody is told."""

    def begin(self, stage: str, total: int) -> None:
        """Say nothing."""

    def advance(self, count: int) -> None:
        """Say nothing."""


@dataclass(frozen=True)
class Row:
    """One line of ``failures.csv``."""

    token: str
    source: str
    outcome: Outcome


@dataclass(frozen=True)
class Extraction:
    """Vectors [n, F] of the ``tokens`` that have one, and what a person should know of the others."""

    tokens: tuple[str, ...]
    vectors: NDArray[np.float32]
    rows: tuple[Row, ...]
    encoded: int  # sources that were encoded in this run, by this process
    reused: int  # sources whose vectors were in the cache
    segments: Segments | None = None  # of the same tokens

    @property
    def failed(self) -> int:
        """How many sources failed."""
        return sum(row.outcome.kind == FAILED for row in self.rows)


@dataclass
class Plan:
    """Content keys of all sources, each key once and in blocks; and sources that cannot even be read."""

    keys: dict[Source, str] = field(default_factory=dict)
    unreadable: dict[Source, Outcome] = field(default_factory=dict)
    by_key: dict[str, Source] = field(default_factory=dict)
    blocks: list[list[str]] = field(default_factory=list)


def make_plan(
    items: Sequence[Item],
    block_size: int,
    *,
    allowed: Callable[[Path], bool] = lambda path: True,
    workers: int = 2,
    progress: Progress | None = None,
) -> Plan:
    """Digest every source, and deal the keys into blocks: texts from the longest to the shortest, files in order."""
    sources = list(dict.fromkeys(source for item in items for source in item.sources))
    progress = progress or Quiet()
    progress.begin("reading", len(sources))
    plan = Plan()
    with ThreadPoolExecutor(workers) as pool:
        for source, key in zip(sources, pool.map(lambda s: _key(s, allowed), sources), strict=True):
            progress.advance(1)
            if isinstance(key, Outcome):
                plan.unreadable[source] = key
            else:
                plan.keys[source] = key
                plan.by_key.setdefault(key, source)
    ordered = sorted(plan.by_key, key=lambda k: -len(s) if isinstance(s := plan.by_key[k], str) else 0)
    plan.blocks = [ordered[i : i + block_size] for i in range(0, len(ordered), block_size)]
    return plan


def _key(source: Source, allowed: Callable[[Path], bool]) -> str | Outcome:
    if isinstance(source, str):
        return content_key(source)
    try:
        if not allowed(source):
            return Outcome(FAILED, "outside the media folder")
        file_size(source)
        return content_key(source)
    except ItemError as error:
        return Outcome(FAILED, str(error))
    except (OSError, ValueError) as error:  # a name that no file can have, a file that may not be read
        return Outcome(FAILED, f"cannot be read: {error}")


def encode_missing(
    encoder: Encoder,
    plan: Plan,
    cache: Cache,
    *,
    world: World | None = None,
    workers: int = 2,
    progress: Progress | None = None,
) -> tuple[int, int]:
    """Encode this process's share of the blocks, less what the cache holds.

    Returns:
        How many sources were encoded, and how many were there already.
    """
    world, progress = world or World(), progress or Quiet()
    known = cache.read()
    mine = [block for number, block in enumerate(plan.blocks) if number % world.size == world.rank]
    todo = [kept for block in mine if (kept := [key for key in block if key not in known.rows])]
    total, missing = sum(map(len, mine)), sum(map(len, todo))
    progress.begin("encoding", total)
    progress.advance(total - missing)
    with ThreadPoolExecutor(workers) as pool:
        for block, prepared, outcomes in _prepared_blocks(encoder, plan, todo, pool, workers):
            kept = [key for key in block if key in prepared]
            vectors, parts = encoder.encode_parts([prepared[key] for key in kept], cache.segments)
            finite = np.isfinite(vectors).all(axis=1)
            outcomes.update({key: Outcome(FAILED, LOST) for key, good in zip(kept, finite, strict=True) if not good})
            good_keys = [key for key, good in zip(kept, finite, strict=True) if good]
            segments = parts.take(np.flatnonzero(finite)) if cache.segments else None
            cache.write(good_keys, vectors[finite].astype(np.float32), outcomes, segments)
            progress.advance(len(block))
    return missing, total - missing


def _prepared_blocks(
    encoder: Encoder, plan: Plan, todo: list[list[str]], pool: ThreadPoolExecutor, workers: int
) -> Iterator[tuple[list[str], dict[str, Prepared], dict[str, Outcome]]]:
    """Blocks whose sources are prepared; workers are never more than a block ahead, so memory is bounded."""
    ahead = max(encoder.block_size, workers)
    waiting: deque[Future[Prepared]] = deque()
    keys = iter([key for block in todo for key in block])

    def submit() -> None:
        key = next(keys, None)
        if key is not None:
            waiting.append(pool.submit(encoder.prepare, plan.by_key[key]))

    try:
        for _ in range(ahead):
            submit()
        for block in todo:
            prepared: dict[str, Prepared] = {}
            outcomes: dict[str, Outcome] = {}
            for key in block:
                try:
                    prepared[key] = waiting.popleft().result()
                    if prepared[key].note:
                        outcomes[key] = Outcome(NOTE, prepared[key].note)
                except NothingToEncode as error:
                    outcomes[key] = Outcome(EMPTY, str(error))
                except ItemError as error:
                    outcomes[key] = Outcome(FAILED, str(error))
                submit()
            yield block, prepared, outcomes
    finally:
        for future in waiting:
            future.cancel()


def collect(items: Sequence[Item], plan: Plan, cache: Cache, counts: tuple[int, int] = (0, 0)) -> Extraction:
    """One vector an item, the mean over its sources; and the lines of ``failures.csv``.

    Raises:
        ExtractionError: another process's blocks are not in the cache.
    """
    known = cache.read()
    lost = next((key for key in plan.by_key if key not in known.rows and key not in known.outcomes), None)
    if lost is not None:
        raise ExtractionError(
            f"{cache.folder}: no vector for {plan.by_key[lost]!s:.80}; expected every process's blocks here: "
            "with several machines, put the data path or --cache on a file system that they share"
        )
    sums, found, parts = _sum(items, plan, known, cache)
    rows = []
    for item in items:
        if item.missing:
            rows.append(Row(item.token, "", Outcome(EMPTY, item.missing)))
        for source in item.sources:
            key = plan.keys.get(source)
            outcome = plan.unreadable.get(source) if key is None else known.outcomes.get(key)
            if outcome is not None:
                rows.append(Row(item.token, source[:80] if isinstance(source, str) else str(source), outcome))
    kept = np.flatnonzero(found)
    vectors = sums[kept] / found[kept, None]
    segments = Segments.of([part for i in kept for part in parts[i]], cache.width) if cache.segments else None
    if segments is not None:  # of several sources an item's segments follow each other
        sources = np.concatenate([[0], np.cumsum([len(parts[i]) for i in kept], dtype=np.int64)])
        segments = Segments(segments.vectors, segments.starts[sources])
    return Extraction(tuple(items[i].token for i in kept), vectors, tuple(rows), *counts, segments)


def _sum(
    items: Sequence[Item], plan: Plan, known: Known, cache: Cache
) -> tuple[NDArray[np.float32], NDArray[np.float32], list[list[NDArray[Any]]]]:
    """Sums of the vectors of each item's sources [I, F], how many there are [I], and the segments of each source."""
    owners: dict[Path, list[tuple[int, int, int]]] = {}
    for number, item in enumerate(items):
        for order, source in enumerate(item.sources):
            place = known.rows.get(plan.keys.get(source, ""))
            if place is not None:
                owners.setdefault(place[0], []).append((number, order, place[1]))
    sums = np.zeros((len(items), cache.width), dtype=np.float32)
    found = np.zeros(len(items), dtype=np.float32)
    parts: list[dict[int, NDArray[Any]]] = [{} for _ in items]
    for path in sorted(owners):
        block = cache.block(path)
        vectors = np.asarray(block.vectors, dtype=np.float32)
        for number, order, row in owners[path]:
            sums[number] += vectors[row]
            found[number] += 1
            if block.segments is not None:
                starts = block.segments.starts
                parts[number][order] = np.asarray(block.segments.vectors[starts[row] : starts[row + 1]])
    return sums, found, [[own[order] for order in sorted(own)] for own in parts]
