"""Opening a picture that may be broken, huge or of another kind than its name says."""

import warnings
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from recbole_mm.extraction.encoder import ItemError

MAX_PIXELS = 64_000_000  # 8,000 x 8,000: 192 MB decoded, a worker


def open_rgb(path: Path) -> tuple[Image.Image, str]:
    """The picture as RGB, upright as its EXIF says, and a note if it was another kind.

    Raises:
        ItemError: it is absent, empty, truncated, not a picture, or has more than ``MAX_PIXELS``.
    """
    size = file_size(path)
    notes = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our bound is lower
            with Image.open(path) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise ItemError(f"{image.width} x {image.height} pixels; at most {MAX_PIXELS:,} are decoded")
                if (frames := getattr(image, "n_frames", 1)) > 1:
                    notes.append(f"animated, {frames} frames: the first is used")
                if image.mode == "CMYK":
                    notes.append("CMYK: converted to RGB")
                image.load()
                return ImageOps.exif_transpose(image).convert("RGB"), "; ".join(notes)
    except UnidentifiedImageError:
        raise ItemError(f"not a picture that can be read ({size:,} bytes)") from None
    except Image.DecompressionBombError as error:
        raise ItemError(f"too many pixels: {error}") from None
    except (OSError, ValueError, SyntaxError, EOFError, IndexError, TypeError) as error:
        raise ItemError(f"broken picture: {error}") from None


def file_size(path: Path) -> int:
    """Bytes of a file.

    Raises:
        ItemError: it is absent, not a file, or empty.
    """
    if not path.exists():
        raise ItemError("no such file")
    if not path.is_file():
        raise ItemError("not a file")
    size = path.stat().st_size
    if size == 0:
        raise ItemError("zero bytes")
    return size
