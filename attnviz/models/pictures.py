"""Pictures from outside: whatever comes in becomes an upright sRGB picture in RGB, here and nowhere else.

Scripts come here through `Model.prepare`, the app through a process of its own (`ui/inputs/decoding.py`); therefore
nothing of torch is imported. Nothing is written to disk.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import cast

import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageFile, UnidentifiedImageError
from pillow_heif import register_heif_opener

from attnviz.models.picture_files import (
    CUT,
    FORMATS,
    KNOWN_AS,
    MAX_BYTES,
    MAX_PIXELS,
    OURS,
    BadImage,
    check_size,
    check_work,
    content_of,
)

MAX_SIDE = 2048  # what is kept
MAX_MISSING = 0.1  # of a JPEG: the share of its rows that may be missing at the end
TAKES = (
    "a PIL image, a path, the bytes of a file, an open binary file, a numpy array [height width] or "
    "[height width channel], or a torch tensor [channel height width]"
)
END = b"\xff\xd9"  # of a JPEG
TURNS = {  # EXIF's orientation -> what sets it upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SRGB = ImageCms.createProfile("sRGB")
PROBE = Image.fromarray(np.indices((6, 6, 6)).reshape(3, 1, -1).transpose(1, 2, 0).astype(np.uint8) * 51)
register_heif_opener()


def picture_from(raw: object) -> Image.Image:
    """Whatever holds a picture as an upright RGB picture in the colours of sRGB, no side above MAX_SIDE.

    Raises BadImage for a file that cannot be read, TypeError and ValueError for what holds no picture.
    """
    if isinstance(raw, Image.Image):
        return of_image(raw)
    if isinstance(raw, np.ndarray):
        return upright(of_array(raw))
    content = raw
    if isinstance(raw, (str, os.PathLike)):
        content = Path(raw).read_bytes()
    elif hasattr(raw, "read"):
        content = raw.read()  # pyright: ignore[reportAttributeAccessIssue]
    if isinstance(content, (bytes, bytearray, memoryview)):
        return decode(bytes(content))
    came = f"{type(raw).__name__}" + (f" that gives {type(content).__name__}" if content is not raw else "")
    raise TypeError(f"a picture is {TAKES}; this is {came}")


def of_image(image: Image.Image) -> Image.Image:
    """A PIL image; one that is opened and not loaded yet is read from its file, exactly as the app reads that file."""
    if raw := waiting_file(image):
        return decode(raw)
    if not all(image.size):
        raise ValueError(f"this picture is {image.width} x {image.height} pixels; it needs at least one")
    if image.mode in ("I", "F"):
        raise ValueError(f"mode {image.mode} does not say what is white; convert the picture to mode L or RGB")
    with calm():
        image.load()
        return upright(image)


def waiting_file(image: Image.Image) -> bytes:
    """The file of an image that is opened and not loaded yet, in a format the app reads; else nothing."""
    if not isinstance(image, ImageFile.ImageFile) or image.format not in (*FORMATS, "MPO"):
        return b""
    if not image.tile or image.fp is None or image.tell():
        return b""
    at = image.fp.tell()
    image.fp.seek(0)
    raw = image.fp.read()
    image.fp.seek(at)
    return raw


def of_array(array: np.ndarray) -> Image.Image:
    """An array [height width] or [height width channel] as a picture."""
    shape, kind = array.shape, array.dtype
    if len(shape) not in (2, 3) or 0 in shape or (len(shape) == 3 and shape[2] not in (3, 4)):
        raise ValueError(f"a picture is [height width] or [height width channel] with 3 or 4 channels; got {shape}")
    if kind.kind == "f":
        if not (array.min() >= 0 and array.max() <= 1):  # says no to NaN too
            raise ValueError(f"floats of a picture lie in 0 to 1; got {array.min():.3g} to {array.max():.3g}")
        return Image.fromarray((array * 255).round().astype(np.uint8))
    if kind != np.uint8:
        raise ValueError(f"a picture is uint8, or floats in 0 to 1; got {kind}")
    return Image.fromarray(np.ascontiguousarray(array))


def decode(raw: bytes) -> Image.Image:
    """A file as an upright RGB picture. Raises BadImage with a sentence for the visitor."""
    if not raw:
        raise BadImage(f"This file is empty. Choose a {KNOWN_AS} picture.")
    if len(raw) > MAX_BYTES:
        raise BadImage(f"This file has {len(raw) / 1e6:.1f} MB; the limit is {MAX_BYTES // 10**6} MB. Save it smaller.")
    whole = check_work(raw)
    try:
        with calm():
            return read(raw) if whole is None else read(raw[:whole] + END, cut=True)
    except UnidentifiedImageError as error:
        content = content_of(raw)
        sentence = CUT if content in OURS else f"This file is {content}, not a {KNOWN_AS} picture."
        raise BadImage(sentence) from error


def read(raw: bytes, *, cut: bool = False) -> Image.Image:
    """A file whose work is bounded as an upright RGB picture; `cut`: a JPEG whose end was put there by us."""
    with Image.open(io.BytesIO(raw), formats=tuple(FORMATS)) as opened:
        check_size(*opened.size)
        if opened.format in ("JPEG", "MPO"):  # decoded at a reduced scale where that suffices
            opened.draft(None, (MAX_SIDE // 2, MAX_SIDE // 2))
        opened.load()
        if cut and missing(opened) > MAX_MISSING:
            raise BadImage(CUT)
        return upright(opened)


def missing(opened: Image.Image) -> float:
    """Which share of a JPEG that is cut is not there: the decoder fills the rows below with the middle grey.

    A progressive one that is cut is coarser, and whole.
    """
    values = np.asarray(opened).reshape(opened.height, -1)
    there = np.flatnonzero(((values != 127) & (values != 128)).any(axis=1))
    return 1 - (there[-1] + 1 if len(there) else 0) / opened.height


@contextmanager
def calm() -> Iterator[None]:
    """Run a decoder, which may raise anything when a file is damaged: AssertionError, struct.error, zlib.error."""
    try:
        yield
    except (BadImage, MemoryError, UnidentifiedImageError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadImage(f"This picture has too many pixels; the limit is {MAX_PIXELS // 10**6} million.") from error
    except Exception as error:
        raise BadImage(CUT) from error


def upright(opened: Image.Image) -> Image.Image:
    """Any mode as RGB: turned as the camera was held, colours of sRGB, transparency on white, at most MAX_SIDE."""
    picture, turn = eight_bit(opened), turn_of(opened)
    if picture.mode in ("P", "PA", "1") or "transparency" in picture.info:  # these cannot be made smaller smoothly
        picture = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
    if (scale := MAX_SIDE / max(picture.size)) < 1:
        width, height = (max(1, round(side * scale)) for side in picture.size)
        picture = picture.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=2.0)
    picture = in_srgb(picture if turn is None else picture.transpose(turn))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    picture = picture.convert("RGB")
    picture.info = {}  # else it would be turned and converted again
    return picture


def turn_of(picture: Image.Image) -> Image.Transpose | None:
    """How to turn a picture as the camera was held; EXIF that cannot be read turns nothing."""
    with suppress(OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, struct.error):
        return TURNS.get(picture.getexif().get(ExifTags.Base.Orientation, 1))
    return None


def eight_bit(picture: Image.Image) -> Image.Image:
    """16-bit grey as 8-bit grey: the high byte, since a plain conversion would clip nearly all of it to white."""
    if not picture.mode.startswith("I;16"):
        return picture
    grey = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    grey.info = dict(picture.info)
    if isinstance(clear := picture.info.get("transparency"), int):
        grey.info["transparency"] = clear >> 8
    return grey


def in_srgb(picture: Image.Image) -> Image.Image:
    """A picture of any colour profile in the colours of sRGB; a profile that cannot be used is passed over.

    Profiles that leave colours alone do nothing: most photos carry sRGB's own.
    """
    profile = picture.info.get("icc_profile")
    if not profile:
        return picture
    with suppress(Exception):
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if picture.mode in ("RGB", "RGBA") and same(PROBE, converted(PROBE, source)):
            return picture
        colours = converted(picture, source)
        if picture.mode in ("LA", "RGBA"):
            colours.putalpha(picture.getchannel("A"))
        return colours
    return picture


def converted(picture: Image.Image, source: ImageCms.ImageCmsProfile) -> Image.Image:
    """A picture in the colours of sRGB, from those of a profile, without its transparency."""
    transform = ImageCms.buildTransform(source, SRGB, picture.mode, "RGB")
    return cast(Image.Image, ImageCms.applyTransform(picture, transform))  # None only where one is changed in place


def same(a: Image.Image, b: Image.Image) -> bool:
    """Whether two pictures differ by no more than rounding."""
    return int(np.abs(np.asarray(a).astype(int) - np.asarray(b)).max()) <= 1
