"""One run of ``recbole-mm extract``: items, encoder, pipeline, ``failures.csv``, feature file, registration."""

import csv
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import numpy as np

from recbole_mm.cli.extraction_progress import Reporter
from recbole_mm.cli.registry import check_modality, feature_path, item_tokens, registered, store
from recbole_mm.data import prepare_files
from recbole_mm.errors import ExtractionError
from recbole_mm.extraction.build import build_encoder
from recbole_mm.extraction.cache import Cache
from recbole_mm.extraction.encoder import Encoder, ItemError
from recbole_mm.extraction.items import (
    AUDIO_SUFFIXES,
    IMAGE_SUFFIXES,
    VIDEO_SUFFIXES,
    Item,
    Table,
    inside,
    media_items,
    read_table,
    text_items,
)
from recbole_mm.extraction.openvino import choose_engine
from recbole_mm.extraction.pipeline import Extraction, Row, collect, encode_missing, make_plan
from recbole_mm.extraction.precision import with_precision
from recbole_mm.extraction.world import World, join_world
from recbole_mm.features import Features, open_feature_file
from recbole_mm.files import replacing

_SUFFIXES = {"image": IMAGE_SUFFIXES, "video": VIDEO_SUFFIXES, "audio": AUDIO_SUFFIXES}


@dataclass(frozen=True)
class Request:
    """What the command line asks for."""

    kind: str  # of the encoder
    command: str  # text, image, video, audio
    settings: dict[str, Any]  # of the encoder
    dataset: str
    modality: str
    data_path: Path
    replace: bool
    table: Path
    item_column: str | None
    all_items: bool
    precision: str
    device: str
    workers: int
    batch_size: int | None
    dtype: str
    cache: Path
    max_failures: int
    licence: str | None
    segments: int = 0  # of a source, at most
    template: str | None = None
    media: Path | None = None
    file_column: str | None = None
    contact_sheet: Path | None = None

    @classmethod
    def of(cls, kind: str, command: str, settings: dict[str, Any], given: dict[str, Any]) -> Self:
        """From click's values."""
        root, dataset = Path(given["data_path"]), given["dataset"]
        folder = root / dataset
        filled = {
            **given,
            "data_path": root,
            "modality": given["modality"] or command,
            "table": Path(given["table"] or folder / f"{dataset}.item"),
            "workers": given["workers"] or min(os.cpu_count() or 1, 8),
            "cache": Path(given["cache"] or folder / ".extract"),
            "media": Path(given["media"]) if given.get("media") else None,
            "contact_sheet": Path(given["contact_sheet"]) if given.get("contact_sheet") else None,
        }
        return cls(kind, command, settings, **filled)


def run(request: Request) -> None:
    """Extract, write and register.

    Raises:
        ExtractionError: it cannot be done, or more than ``max_failures`` sources failed.
    """
    world = join_world()
    reporter = Reporter(quiet=not world.leads)
    prepare_files(request.dataset, request.data_path)
    check_modality(request.data_path, request.dataset, request.modality, replace=True)  # its name, before the work
    items = _items(request, reporter)
    reporter.stage("loading the encoder")
    encoder, why = _encoder(request, items, world, reporter.stage)
    reporter.say(f"{encoder.card.encoder}, {encoder.card.checkpoint}: {encoder.width} wide; {why}")
    _check_free(request, encoder)
    cache = Cache(request.cache, f"{encoder.card.signature()}-{encoder.precision}", encoder.width, request.segments)
    if world.leads:
        with cache.locked():
            extraction, date = _extract(request, items, encoder, cache, world, reporter)
            _write(request, items, extraction, encoder, date, reporter)
            cache.finished()
            if request.contact_sheet is not None:
                _draw(request.contact_sheet, items, extraction, encoder, reporter)
        world.leave()
        _judge(request, extraction)
    else:
        _extract(request, items, encoder, cache, world, reporter)
        world.leave()


def _items(request: Request, reporter: Reporter) -> list[Item]:
    """Items of the table that the data set has; those of the data set that the table lacks have no source."""
    table = read_table(request.table, request.item_column)
    items = _all_items(request, table)
    catalogue = item_tokens(request.data_path, request.dataset)
    if request.all_items:
        return items
    by_token = {item.token: item for item in items}
    kept = [by_token.get(token) or Item(token, (), f"not in {table.path.name}") for token in catalogue]
    shared = len(by_token.keys() & set(catalogue))
    if not shared:
        raise ExtractionError(
            f"{table.path}: none of its {len(items)} items is an item of '{request.dataset}' ('{items[0].token}' in "
            f"the table, '{catalogue[0]}' in the data set); name the column of the item tokens by --item-column"
        )
    if shared < len(items):
        reporter.say(f"{len(items) - shared} of the table's {len(items)} items are not in the data set: left out")
    return kept


def _all_items(request: Request, table: Table) -> list[Item]:
    if request.media is None:
        return text_items(table, str(request.template))
    return media_items(table, request.media, _SUFFIXES[request.command], request.file_column)


def _encoder(request: Request, items: Sequence[Item], world: World, say: Callable[[str], None]) -> tuple[Encoder, str]:
    import torch

    device = request.device
    if device == "auto":
        device = f"cuda:{world.local_rank}" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ExtractionError(f"device '{device}' cannot be used: {str(error).splitlines()[0]}") from error

    settings = dict(request.settings)
    if "engine" in settings:
        settings["engine"] = choose_engine(settings["engine"], device)

    def make(precision: str, **more: Any) -> Encoder:
        encoder = build_encoder(request.kind, **settings, device=device, precision=precision, **more)
        encoder.batch_size = request.batch_size or encoder.batch_size
        return encoder

    sources = [source for item in items for source in item.sources]
    if not world.leads:
        world.wait()  # until the leading process has chosen, and calibrated: all of them run the same network
    chosen = with_precision(make, request.precision, sources, device, request.cache, say)
    if world.leads:
        world.wait()
    return chosen


def _check_free(request: Request, encoder: Encoder) -> None:
    """A modality is written again without --replace if the same encoder wrote it."""
    path = feature_path(request.data_path, request.dataset, request.modality)
    entry = registered(request.data_path, request.dataset).get(request.modality, {})
    same = False
    if entry.get("file") == path.name and path.is_file():
        same = open_feature_file(path).provenance.get("settings") == encoder.card.provenance()["settings"]
    check_modality(request.data_path, request.dataset, request.modality, replace=request.replace or same)


def _extract(
    request: Request, items: Sequence[Item], encoder: Encoder, cache: Cache, world: World, reporter: Reporter
) -> tuple[Extraction, str]:
    """Every process encodes its share; the leading one has them all at the end."""
    cache.folder.mkdir(parents=True, exist_ok=True)
    date = cache.started() if world.leads else ""
    world.wait()
    allowed = inside(request.media) if request.media is not None else lambda path: True
    with reporter:
        plan = make_plan(items, encoder.block_size, allowed=allowed, workers=request.workers, progress=reporter)
        counts = encode_missing(encoder, plan, cache, world=world, workers=request.workers, progress=reporter)
    world.wait()
    if not world.leads:
        return Extraction((), np.zeros((0, encoder.width), np.float32), (), *counts), date
    return collect(items, plan, cache, counts), date


def _write(
    request: Request, items: Sequence[Item], extraction: Extraction, encoder: Encoder, date: str, reporter: Reporter
) -> None:
    failures = feature_path(request.data_path, request.dataset, request.modality).with_suffix(".failures.csv")
    write_failures(failures, extraction.rows)
    if not extraction.tokens:
        raise ExtractionError(f"none of the {len(items)} items could be encoded; the reasons are in {failures}")
    origin = f"template {request.template!r} of {request.table.name}"
    if request.media is not None:
        named = f"column {request.file_column}" if request.file_column else "item tokens"
        origin = f"files of {request.media.name}, named by {named} of {request.table.name}"
    facts = {**encoder.card.provenance(), "source": origin, "date": date, "precision": encoder.precision}
    if request.template is not None:
        facts["template"] = request.template
    if request.licence:
        facts["licence"] = f"encoder: {encoder.card.licence}; {request.command}: {request.licence}"
    if request.segments:
        facts["segments"] = f"at most {request.segments} a source, in order"
    vectors, name = extraction.vectors.astype(request.dtype), f"{request.modality} of {request.dataset}"
    features = Features(vectors, extraction.tokens, facts, name, extraction.segments)
    line = store(request.data_path, request.dataset, request.modality, features, {}, allow_unknown=request.all_items)
    reporter.say(f"{extraction.encoded:,} sources encoded now, {extraction.reused:,} taken from the cache")
    reporter.outcomes(extraction.rows, failures)
    reporter.say(line)


def _draw(folder: Path, items: Sequence[Item], extraction: Extraction, encoder: Encoder, reporter: Reporter) -> None:
    """Contact sheets of the items that were encoded, but those that are drawn already."""
    from recbole_mm.extraction.contact_sheet import draw_contact_sheet

    encoded = set(extraction.tokens)
    drawn = 0
    for item in (i for i in items if i.token in encoded):
        for number, source in enumerate(item.sources):
            target = folder / f"{quote(item.token, safe=' ')}{f'-{number + 1}' if number else ''}.jpg"
            if target.exists():
                continue
            try:
                draw_contact_sheet(target, encoder.keyframes, Path(source), f"{item.token}: {encoder.keyframes}")  # type: ignore[attr-defined]
                drawn += 1
            except ItemError:
                continue  # it is in failures.csv
    reporter.say(f"{drawn} contact sheets drawn in {folder}")


def write_failures(path: Path, rows: Sequence[Row]) -> None:
    """Every source that failed, was empty or is to be noted, with its reason."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["item_id", "source", "outcome", "reason"])
        for row in rows:
            writer.writerow([row.token, " ".join(row.source.split()), row.outcome.kind, row.outcome.reason])


def _judge(request: Request, extraction: Extraction) -> None:
    if extraction.failed > request.max_failures:
        failures = feature_path(request.data_path, request.dataset, request.modality).with_suffix(".failures.csv")
        raise ExtractionError(
            f"{extraction.failed} sources failed, more than --max-failures {request.max_failures}; the rest is "
            f"written, the reasons are in {failures}"
        )
