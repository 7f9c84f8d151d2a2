"""Pictures from outside: checked before they are decoded, kept in memory only, never written to disk.

Every file becomes an upright RGB picture or a BadImage whose message is one sentence for the visitor.
"""

from __future__ import annotations

import hashlib
import io
import struct
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from attnviz.ui.cache import core

MAX_BYTES = 10_000_000
MAX_PIXELS = 25_000_000  # 5000 x 5000; decoding more would take gigabytes
MAX_SIDE = 2048  # what is kept
MIN_SIDE = 4
MAX_RATIO = 20  # of the long to the short side: beyond it the middle square is a sliver
FORMATS = ("PNG", "JPEG", "WEBP")  # no other decoder ever runs
KNOWN_AS = "PNG, JPEG or WebP"
SIGNATURES = {  # what the first bytes of common other files look like
    b"GIF8": "a GIF picture",
    b"BM": "a BMP picture",
    b"II*\0": "a TIFF picture",
    b"MM\0*": "a TIFF picture",
    b"%PDF": "a PDF document",
    b"%!PS": "a PostScript document",
    b"PK\x03\x04": "a ZIP archive",
}


TURNS = {  # EXIF's orientation -> what sets it upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# what PIL raises for broken data
BROKEN = (OSError, SyntaxError, ValueError, TypeError, EOFError, LookupError, ArithmeticError, struct.error)


class BadImage(ValueError):
    """A picture that cannot be used; the message is a sentence for the visitor."""


class Picture(NamedTuple):
    """A picture and its digest, the only key it is cached under."""

    image: Image.Image  # upright RGB
    digest: str


def picture_of(image: Image.Image) -> Picture:
    """A decoded picture with the digest of its size and pixels."""
    return Picture(image, hashlib.sha256(repr(image.size).encode() + image.tobytes()).hexdigest())


def decode(raw: bytes) -> Picture:
    """An upload as an upright RGB picture. Raises BadImage with a sentence for the visitor."""
    if not raw:
        raise BadImage(f"This file is empty. Choose a {KNOWN_AS} picture.")
    if len(raw) > MAX_BYTES:
        raise BadImage(f"This file has {len(raw) / 1e6:.1f} MB; the limit is {MAX_BYTES // 10**6} MB. Save it smaller.")
    try:
        with Image.open(io.BytesIO(raw), formats=FORMATS) as opened:
            check_size(*opened.size)
            opened.draft(None, (MAX_SIDE // 2, MAX_SIDE // 2))  # JPEG is decoded at a reduced scale where that suffices
            with core():  # a decoder needs memory: no more of them at once than there are cores
                opened.load()
                return picture_of(upright(opened))
    except (BadImage, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise BadImage(f"This file is {content_of(raw)}, not a {KNOWN_AS} picture.") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadImage(f"This picture has too many pixels; the limit is {MAX_PIXELS // 10**6} million.") from error
    except BROKEN as error:
        raise BadImage("This picture is cut short or damaged. Save or download it again.") from error


def check_size(width: int, height: int) -> None:
    """Refuse a picture by the size in its header, before a byte of it is decoded."""
    size = f"This picture is {width:,} x {height:,} pixels"
    if width * height > MAX_PIXELS:
        raise BadImage(f"{size}; the limit is {MAX_PIXELS // 10**6} million in all. Make it smaller and try again.")
    if min(width, height) < MIN_SIDE and max(width, height) < MAX_RATIO * MIN_SIDE:
        raise BadImage(f"{size}, too small to show anything. Use one of at least {MIN_SIDE} x {MIN_SIDE}.")
    if max(width, height) > MAX_RATIO * min(width, height):
        raise BadImage(f"{size}. The model sees the square in its middle, here a sliver. Crop it and try again.")


def upright(opened: Image.Image) -> Image.Image:
    """Any mode as RGB, turned as the camera was held, transparency on white, no side above MAX_SIDE."""
    picture = eight_bit(opened)
    if picture.mode in ("P", "PA", "1"):  # these cannot be made smaller smoothly
        picture = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
    picture.thumbnail((MAX_SIDE, MAX_SIDE), reducing_gap=2.0)
    picture = turned(picture)
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture.convert("RGB")


def turned(picture: Image.Image) -> Image.Image:
    """The picture as the camera was held. Nothing else of its EXIF is read, and what cannot be read turns nothing."""
    try:
        turn = TURNS.get(picture.getexif().get(ExifTags.Base.Orientation, 1))
    except BROKEN:
        return picture
    return picture if turn is None else picture.transpose(turn)


def eight_bit(picture: Image.Image) -> Image.Image:
    """16-bit grey as 8-bit grey: the high byte, since a plain conversion would clip nearly all of it to white."""
    if not picture.mode.startswith(("I", "F")):
        return picture
    values = np.asarray(picture)
    whole = values.astype(np.int32) if values.dtype.kind == "f" else values  # no wider: 25 million pixels may come
    grey = Image.fromarray((whole >> 8).clip(0, 255).astype(np.uint8))
    grey.info = dict(picture.info)
    return grey


def content_of(raw: bytes) -> str:
    """What a file that is no picture of ours seems to hold, in words."""
    start = raw[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if b"<svg" in start:
        return "an SVG drawing"
    if start.startswith((b"<!doctype html", b"<html")):
        return "a web page"
    if raw[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftypavif"):
        return "a HEIC or AVIF picture"
    return next((name for head, name in SIGNATURES.items() if raw.startswith(head)), "something else")
