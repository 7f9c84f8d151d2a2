"""Pictures from outside: whatever is handed in either shows right or gets one sentence, in bounded memory."""

from __future__ import annotations

import asyncio
import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
import streamlit as st
from PIL import Image, ImageDraw
from starlette.datastructures import UploadFile
from starlette.requests import Request

from attnviz.models import pictures
from attnviz.ui.inputs.uploads import BadImage, decode

RED, GREEN, BLUE, WHITE = (220, 30, 30), (30, 160, 30), (30, 30, 220), (255, 255, 255)


def quarters(width: int = 64, height: int = 48, mode: str = "RGB") -> Image.Image:
    """A picture whose quarters are red, green, blue and white, so that turning it shows."""
    picture = Image.new("RGB", (width, height), WHITE)
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, 0, width // 2 - 1, height // 2 - 1), fill=RED)
    draw.rectangle((width // 2, 0, width, height // 2 - 1), fill=GREEN)
    draw.rectangle((0, height // 2, width // 2 - 1, height), fill=BLUE)
    return picture.convert(mode)


def saved(picture: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """A picture as a file in memory."""
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def corners(image: Image.Image) -> list[tuple[int, ...]]:
    """The colours in the middle of the four quarters: upper left, upper right, lower left, lower right."""
    w, h = image.size
    return [image.getpixel((x, y)) for y in (h // 4, 3 * h // 4) for x in (w // 4, 3 * w // 4)]


def near(found: list[tuple[int, ...]], expected: list[tuple[int, ...]], by: int = 40) -> bool:
    """Whether colours agree within what compression changes."""
    return bool((np.abs(np.array(found) - np.array(expected)) <= by).all())


def empty_png(width: int, height: int) -> bytes:
    """A black PNG of any size in a few kilobytes: what a decompression bomb looks like."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    squeezer = zlib.compressobj(9)
    row = b"\0" * (1 + (width + 7) // 8)
    data = b"".join(squeezer.compress(row) for _ in range(height)) + squeezer.flush()
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


SHOWN: dict[str, Callable[[], bytes]] = {
    "PNG": lambda: saved(quarters()),
    "JPEG": lambda: saved(quarters(), "JPEG", quality=95),
    "progressive JPEG": lambda: saved(quarters(), "JPEG", quality=95, progressive=True),
    "WebP": lambda: saved(quarters(), "WEBP", lossless=True),
    "palette PNG": lambda: saved(quarters(mode="P")),
    "RGBA PNG": lambda: saved(quarters(mode="RGBA")),
    "CMYK JPEG": lambda: saved(quarters(mode="CMYK"), "JPEG", quality=95),
    "a name that lies": lambda: saved(quarters(), "WEBP", lossless=True),
    "tiny": lambda: saved(quarters(8, 8)),
    "large JPEG": lambda: saved(quarters(4000, 3000), "JPEG", quality=90),
    "large PNG": lambda: saved(quarters(4000, 3000)),
    "animated PNG": lambda: saved(quarters(), save_all=True, append_images=[Image.new("RGB", (64, 48), RED)]),
    "animated WebP": lambda: saved(
        quarters(), "WEBP", lossless=True, save_all=True, append_images=[Image.new("RGB", (64, 48), RED)]
    ),
}


@pytest.mark.parametrize("name", SHOWN)
def test_a_good_picture_shows_right(name: str):
    image = decode(SHOWN[name]()).image
    assert image.mode == "RGB"
    assert max(image.size) <= pictures.MAX_SIDE
    assert near(corners(image), [RED, GREEN, BLUE, WHITE]), corners(image)


STORED_AS = {  # EXIF orientation -> how a camera held that way stores an upright scene
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("turn", STORED_AS)
def test_a_picture_is_turned_as_the_camera_was_held(turn: int):
    stored = quarters().transpose(STORED_AS[turn])
    exif = Image.Exif()
    exif[0x0112] = turn
    image = decode(saved(stored, "JPEG", quality=95, exif=exif)).image
    assert image.size == (64, 48)
    assert near(corners(image), [RED, GREEN, BLUE, WHITE]), corners(image)


def exif_of(*entries: bytes) -> bytes:
    """An EXIF block of these entries, each of 12 bytes."""
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(entries)) + b"".join(entries) + struct.pack("<I", 0)


SIDEWAYS = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0)
ODD = {  # EXIF that PIL reads, but cannot write again, or cannot read at all -> whether it says how to turn
    "resolution unit as a fraction": (exif_of(SIDEWAYS, struct.pack("<HHII", 0x0128, 5, 1, 0)), True),
    "resolution in letters": (exif_of(struct.pack("<HHI4s", 0x011A, 2, 3, b"72\0"), SIDEWAYS), True),
    "cut after its first bytes": (b"Exif\0\0II*\0", False),
    "no EXIF at all": (b"Exif\0\0nonsense", False),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_exif_does_not_spoil_a_picture(name: str):
    exif, turns = ODD[name]
    stored = quarters().transpose(Image.Transpose.ROTATE_90) if turns else quarters()
    for kind in ("JPEG", "PNG", "WEBP"):
        options = {"quality": 95} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
        image = decode(saved(stored, kind, exif=exif, **options)).image
        assert near(corners(image), [RED, GREEN, BLUE, WHITE]), (kind, corners(image))


def test_sixteen_bits_keep_their_range():
    grey = np.linspace(0, 65535, 64 * 48).reshape(48, 64).astype(np.uint16)
    found = np.asarray(decode(saved(Image.fromarray(grey))).image)[..., 0]
    assert np.abs(found.astype(int) - (grey >> 8)).max() <= 1


@pytest.mark.parametrize("mode", ["L", "LA", "1"])
def test_grey_pictures_become_colour(mode: str):
    image = decode(saved(quarters(mode="L").convert(mode))).image
    assert image.mode == "RGB"
    assert image.getpixel((50, 40)) == WHITE


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "RGB with a transparent colour"])
def test_what_is_transparent_is_white(mode: str):
    if mode == "RGB with a transparent colour":
        raw = saved(Image.new("RGB", (40, 40), (1, 2, 3)), transparency=(1, 2, 3))
    else:
        picture = Image.new("RGBA", (40, 40), (200, 0, 0, 0))
        picture.paste((0, 0, 0, 255), (0, 0, 20, 40))
        raw = saved(picture.convert("LA") if mode == "LA" else picture.quantize(8) if mode == "PA" else picture)
    assert decode(raw).image.getpixel((30, 20)) == WHITE


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "empty"),
    "SVG": (lambda: b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "an SVG drawing"),
    "HTML": (lambda: b"<!DOCTYPE html><script>alert(1)</script>", "a web page"),
    "GIF": (lambda: saved(quarters(), "GIF"), "a GIF picture"),
    "TIFF": (lambda: saved(quarters(), "TIFF"), "a TIFF picture"),
    "BMP": (lambda: saved(quarters(), "BMP"), "a BMP picture"),
    "PostScript": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "a PostScript document"),
    "noise": (lambda: bytes(range(256)) * 8, "something else"),
    "truncated PNG": (lambda: saved(quarters())[:90], "cut short or damaged"),
    "truncated JPEG": (lambda: saved(quarters(), "JPEG")[:500], "cut short or damaged"),
    "truncated WebP": (lambda: saved(quarters(), "WEBP")[:60], "damaged"),
    "only a header": (lambda: b"\x89PNG\r\n\x1a\n", "cut short or damaged"),
    "one pixel": (lambda: saved(Image.new("RGB", (1, 1))), "too small"),
    "a sliver": (lambda: empty_png(10_000, 20), "10,000 x 20"),
    "a bomb": (lambda: empty_png(9000, 9000), "9,000 x 9,000"),
    "a huge bomb": (lambda: empty_png(40_000, 30_000), "million"),
    "too many bytes": (lambda: b"\x89PNG\r\n\x1a\n" + b"\0" * 11_000_000, "10 MB"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_file_gets_one_sentence(name: str):
    make, words = REFUSED[name]
    with pytest.raises(BadImage) as caught:
        decode(make())
    sentence = str(caught.value)
    assert words in sentence
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert "Traceback" not in sentence


def test_a_bomb_is_refused_by_its_header(monkeypatch: pytest.MonkeyPatch):
    def never(self):
        raise AssertionError("decoded")

    raw = empty_png(9000, 9000)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", never)
    with pytest.raises(BadImage, match="9,000 x 9,000"):
        pictures.decode(raw)


def test_nothing_is_written_to_disk(monkeypatch: pytest.MonkeyPatch):
    def never(*args: object, **options: object):
        raise AssertionError("a file was opened for writing")

    raw = saved(quarters())
    pictures.decode(raw)  # what the process that reads pictures does; once, so that PIL has loaded its plugins
    monkeypatch.setattr("tempfile.mkstemp", never)
    monkeypatch.setattr("tempfile.NamedTemporaryFile", never)
    monkeypatch.setattr("builtins.open", never)
    pictures.decode(raw)


def test_the_server_keeps_an_upload_in_memory():
    import app  # what the server runs decides it

    assert isinstance(app.app, st.App)
    head = b'--x\r\nContent-Disposition: form-data; name="f"; filename="f.png"\r\n\r\n'
    body = head + bytes(10**7) + b"\r\n--x--\r\n"

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def rolled() -> bool:
        scope = {"type": "http", "headers": [(b"content-type", b"multipart/form-data; boundary=x")]}
        file = (await Request(scope, receive).form())["f"]
        assert isinstance(file, UploadFile)
        assert file.size == 10**7
        with file.file:
            return file.file._rolled  # type: ignore[union-attr]

    assert not asyncio.run(rolled())


def test_the_same_pixels_have_the_same_digest():
    assert decode(saved(quarters())).digest == decode(saved(quarters(), "WEBP", lossless=True)).digest
    assert decode(saved(quarters())).digest != decode(saved(quarters(48, 64))).digest
