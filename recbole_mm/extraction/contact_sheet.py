"""The chosen keyframes of a trailer on one picture, for a person to look at."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from recbole_mm.extraction.keyframes import Keyframes
from recbole_mm.files import replacing

_COLUMNS = 4
_THUMB_PX = (240, 160)
_LABEL_PX = 18


def draw_contact_sheet(target: Path, keyframes: Keyframes, video: Path, title: str) -> None:
    """Write a JPEG of the keyframes in order, each with its time.

    Raises:
        ItemError: the video cannot be decoded.
    """
    thumbs: list[tuple[Image.Image, str]] = []
    for frame in keyframes.frames(video, []):
        image = Image.fromarray(frame.image)
        image.thumbnail(_THUMB_PX)
        thumbs.append((image, f"{frame.time_s:.2f} s"))
    with replacing(target) as temporary:
        _arrange(thumbs, title).save(temporary, "JPEG", quality=88)


def _arrange(thumbs: Sequence[tuple[Image.Image, str]], title: str) -> Image.Image:
    columns = min(_COLUMNS, len(thumbs))
    rows = -(-len(thumbs) // columns)
    width, height = max(i.width for i, _ in thumbs) + 8, max(i.height for i, _ in thumbs) + _LABEL_PX + 8
    sheet = Image.new("RGB", (columns * width + 8, rows * height + _LABEL_PX + 8), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((8, 4), title, fill="black")
    for number, (image, label) in enumerate(thumbs):
        left, top = 8 + number % columns * width, _LABEL_PX + 4 + number // columns * height
        sheet.paste(image, (left, top))
        draw.text((left, top + image.height + 2), label, fill="black")
    return sheet
