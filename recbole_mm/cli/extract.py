"""``recbole-mm extract text | image | video | audio | genre``: from raw media to a registered feature file."""

from collections.abc import Callable
from typing import Any

import click

_PRECISIONS = ("auto", "float32", "bfloat16", "int8")  # of recbole_mm.extraction.precision, which would import torch
# --max_failures is --max-failures: the other commands write underscores, as RecBole does
_SETTINGS = {
    "token_normalize_func": lambda word: word.replace("_", "-"),
    "help_option_names": ["-h", "--help"],
}


def options(*chosen: Callable[..., Any]) -> Callable[..., Any]:
    """Several options as one decorator, shown in this order."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(chosen):
            command = option(command)
        return command

    return decorate


_TARGET = options(
    click.option("--dataset", required=True, help="Name of the data set."),
    click.option("--modality", help="Name to register the features by. [default: the command's name]"),
    click.option("--data-path", default="dataset", show_default=True, help="Folder of the data sets' folders."),
    click.option("--replace", is_flag=True, help="Replace the modality if it is registered already."),
)
_TABLE = options(
    click.option("--table", help=".csv, .tsv, .jsonl or atomic file. [default: the data set's .item file]"),
    click.option("--item-column", help="Column of --table that holds the item tokens. [default: item_id, item, id]"),
    click.option("--all-items", is_flag=True, help="Also encode items of the table that the data set does not have."),
)
_RUN = options(
    click.option("--precision", type=click.Choice(_PRECISIONS), default="auto", show_default=True,
                 help="auto: the fastest by which the vectors stay within cosine .999; int8: a backbone by OpenVINO."),
    click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1; auto: cuda if there is one."),
    click.option("--workers", type=click.IntRange(1, 64), help="Decoding threads. [default: one a core, at most 8]"),
    click.option("--batch-size", type=click.IntRange(1), help="Inputs a batch. [default: the encoder's]"),
    click.option("--dtype", type=click.Choice(["float16", "float32"]), default="float16", show_default=True,
                 help="Of the vectors in the feature file."),
    click.option("--cache", help="Folder of finished vectors. [default: <data-path>/<dataset>/.extract]"),
    click.option("--max-failures", type=click.IntRange(0), default=0, show_default=True,
                 help="Exit with an error if more sources failed; the rest is written all the same."),
    click.option("--licence", help="Licence of the texts or media, recorded beside the encoder's."),
)  # fmt: skip
_CHECKPOINT = click.option("--checkpoint", help="Weights: Hugging Face name, or local path (no network then).")
_REVISION = click.option("--revision", help="Commit or tag of the checkpoint on the hub.")
_MEDIA = options(
    click.option("--media", required=True, help="Folder of the files."),
    click.option("--file-column", help="Column of --table that holds paths below --media. [default: files are "
                 "named as the items]"),
)  # fmt: skip

_SEGMENTS = click.option("--segments", type=click.IntRange(0, 512), default=0, show_default=True,
                         help="Also keep up to so many vectors a file or text, in order: of its keyframes or clips, "
                         "chunks of sound, windows of text; 1: of each of an item's files or texts.")  # fmt: skip

_ENGINE = click.option("--engine", type=click.Choice(["auto", "torch", "openvino"]), default="auto", show_default=True,
                       help="What runs a backbone on the processor; auto: OpenVINO if it is installed.")  # fmt: skip


@click.group(context_settings=_SETTINGS)
def extract() -> None:
    """Encode texts, images, trailers or sound into a feature file, and register it with a data set.

    Killed at any moment, the same command goes on where it was. What cannot be encoded is listed with its reason in
    <dataset>/<dataset>.<modality>.failures.csv.
    """


def _run(kind: str, command: str, settings: dict[str, Any], given: dict[str, Any]) -> None:
    from recbole_mm.cli.extraction_run import Request, run

    run(Request.of(kind, command, settings, given))


@extract.command(context_settings=_SETTINGS)
@_TARGET
@_TABLE
@click.option("--template", required=True, help="Text of an item from the table's columns, as '{title}. {plot}'.")
@_CHECKPOINT
@_REVISION
@click.option("--pooling", type=click.Choice(["mean", "cls"]), help="[default: as the checkpoint says, else mean]")
@click.option("--normalise/--no-normalise", default=None, help="Length 1. [default: as the checkpoint says, else no]")
@click.option("--max-tokens", type=click.IntRange(8), help="Tokens a window. [default: what the checkpoint takes]")
@click.option("--max-windows", type=click.IntRange(1), help="Windows of a text. [default: 64]")
@_SEGMENTS
@_RUN
def text(
    checkpoint: str | None, revision: str | None, pooling: str | None, normalise: bool | None,
    max_tokens: int | None, max_windows: int | None, **given: Any,
) -> None:  # fmt: skip
    """Encode texts by BERT or another encoder of Hugging Face (default bert-base-uncased).

    Several rows of one item (reviews) are averaged. A text longer than the checkpoint's window is encoded in windows.
    """
    settings = {
        "checkpoint": checkpoint, "revision": revision, "pooling": pooling, "normalise": normalise,
        "max_tokens": max_tokens, "max_windows": max_windows,
    }  # fmt: skip
    _run("bert", "text", settings, given)


@extract.command(context_settings=_SETTINGS)
@_TARGET
@_TABLE
@_MEDIA
@click.option("--encoder", default="resnet50", show_default=True, help="A torchvision backbone, or clip.")
@click.option("--checkpoint", help="Local state dict of the backbone; for clip a Hugging Face name or local folder.")
@_REVISION
@click.option("--weights", help="torchvision's weights. [default: IMAGENET1K_V2 for resnet50, else torchvision's]")
@click.option("--stretch", type=click.IntRange(16, 2048), metavar="PX",
              help="Stretch to PX x PX, pixels in [-1, 1], instead of the weights' own transforms.")  # fmt: skip
@_ENGINE
@_SEGMENTS
@_RUN
def image(
    encoder: str, checkpoint: str | None, revision: str | None, weights: str | None, stretch: int | None,
    engine: str, **given: Any,
) -> None:  # fmt: skip
    """Encode images by a torchvision backbone (default ResNet-50, IMAGENET1K_V2) or CLIP's image tower."""
    if encoder == "clip":
        _run("clip", "image", {"checkpoint": checkpoint, "revision": revision}, given)
        return
    settings = {"arch": encoder, "checkpoint": checkpoint, "weights": weights, "stretch_px": stretch}
    _run("resnet", "image", {**settings, "engine": engine}, given)


_KEYFRAMES = options(
    click.option("--frames", type=click.IntRange(1, 512), help="Keyframes. [default: the checkpoint's clip, or 16]"),
    click.option("--keyframes", type=click.Choice(["uniform", "scene", "scene-objects"]), default="uniform",
                 show_default=True, help="At equal intervals; one a scene, in the middle; those with most objects."),
    click.option("--scene-detector", type=click.Choice(["content", "adaptive", "threshold"]), default="content",
                 show_default=True, help="PySceneDetect's, at its defaults."),
    click.option("--detector", help="For scene-objects: YOLOS by name or local path, or ultralytics:WEIGHTS. "
                 "[default: hustvl/yolos-tiny]"),
    click.option("--object-fps", type=click.FloatRange(0.01, 60), default=2.0, show_default=True,
                 help="Frames a second that the detector sees."),
)  # fmt: skip


@extract.command(context_settings=_SETTINGS)
@_TARGET
@_TABLE
@_MEDIA
@click.option("--encoder", default="timesformer", show_default=True, help="timesformer, or a torchvision backbone.")
@click.option("--checkpoint", help="TimeSformer: Hugging Face name or local folder; a backbone: local state dict.")
@_REVISION
@click.option("--weights", help="torchvision's weights. [default: IMAGENET1K_V2 for resnet50, else torchvision's]")
@_KEYFRAMES
@click.option("--contact-sheet", metavar="FOLDER", help="Draw each item's keyframes into FOLDER/<item>.jpg.")
@_ENGINE
@_SEGMENTS
@_RUN
def video(
    encoder: str, checkpoint: str | None, revision: str | None, weights: str | None, frames: int | None,
    keyframes: str, scene_detector: str, detector: str | None, object_fps: float, engine: str, **given: Any,
) -> None:  # fmt: skip
    """Encode trailers by TimeSformer over their keyframes, or by ResNet-50 averaged over them."""
    settings = {
        "checkpoint": checkpoint, "frames": frames, "keyframes": keyframes, "scene_detector": scene_detector,
        "detector": detector, "object_fps": object_fps,
    }  # fmt: skip
    if encoder == "timesformer":
        _run("timesformer", "video", {**settings, "revision": revision}, given)
        return
    _run("resnet_frames", "video", {**settings, "arch": encoder, "weights": weights, "engine": engine}, given)


@extract.command(context_settings=_SETTINGS)
@_TARGET
@_TABLE
@_MEDIA
@_CHECKPOINT
@_REVISION
@click.option("--layer", type=click.Choice(["conv", "last"]), default="conv", show_default=True,
              help="Convolutional features (512), or the last hidden state.")  # fmt: skip
@click.option("--chunk-s", type=click.FloatRange(1, 120), default=10.0, show_default=True, help="Seconds a chunk.")
@_SEGMENTS
@_RUN
def audio(checkpoint: str | None, revision: str | None, layer: str, chunk_s: float, **given: Any) -> None:
    """Encode sound, also that of videos, by wav2vec 2.0; an item without sound, or a silent one, is masked."""
    settings = {"checkpoint": checkpoint, "revision": revision, "layer": layer, "chunk_s": chunk_s}
    _run("wav2vec2", "audio", settings, given)


@extract.command(context_settings=_SETTINGS)
@_TARGET
@click.option("--source", required=True, help="Registered modality to learn from, such as audio or video.")
@click.option("--table", help="Table of the genres. [default: the data set's .item file]")
@click.option("--item-column", help="Column of --table that holds the item tokens. [default: item_id, item, id]")
@click.option("--genre-column", default="class", show_default=True, help="Column of --table that holds the genres.")
@click.option("--separator", help="Between the genres. [default: | or ; or comma, whichever occurs, else space]")
@click.option("--held-out", type=click.FloatRange(0.01, 0.9), default=60 / 510, show_default="60 of 510",
              help="Share of the movies to score on.")  # fmt: skip
@click.option("--epochs", type=click.IntRange(1), default=100, show_default=True)
@click.option("--seed", default=2020, show_default=True)
@click.option("--dtype", type=click.Choice(["float16", "float32"]), default="float16", show_default=True)
def genre(**given: Any) -> None:
    """Train the genre embedder on a modality, and register its embeddings (default name <source>_genre).

    It prints mAP and F1 on movies that were held out.
    """
    from recbole_mm.cli.extraction_genre import run

    run(**given)
