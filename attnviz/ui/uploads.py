"""Pictures from outside: checked before they are decoded, never written to disk."""

from __future__ import annotations

import io

from PIL import Image, ImageOps

MAX_BYTES = 10_000_000
MAX_PIXELS = 25_000_000
MIN_SIDE = 8
FORMATS = ("PNG", "JPEG", "WEBP")


class BadImage(ValueError):
    """A picture that cannot be used; the message is a sentence for the visitor."""


def decode(raw: bytes) -> Image.Image:
    """The upload as an upright RGB picture. Raises BadImage with a sentence for the visitor."""
    if len(raw) > MAX_BYTES:
        raise BadImage(f"This file has {len(raw) / 1e6:.0f} MB; the limit is {MAX_BYTES // 10**6} MB.")
    try:
        with Image.open(io.BytesIO(raw), formats=FORMATS) as picture:
            width, height = picture.size
            if width * height > MAX_PIXELS or min(width, height) < MIN_SIDE:
                raise BadImage(f"This picture has {width:,} x {height:,} pixels, which is out of range.")
            picture.draft("RGB", (1024, 1024))
            picture.load()
            return flatten(ImageOps.exif_transpose(picture))
    except BadImage:
        raise
    except Exception as error:
        raise BadImage("This is not a PNG, JPEG or WebP picture that can be read.") from error


def flatten(picture: Image.Image) -> Image.Image:
    """Any mode as RGB: transparency onto white, 16 bits down to 8."""
    if picture.mode.startswith("I"):
        picture = picture.point(lambda value: value / 256).convert("L")
    if picture.has_transparency_data:
        rgba = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return picture.convert("RGB")
