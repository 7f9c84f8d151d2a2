"""Whatever holds a picture becomes the same upright sRGB picture, in scripts as in the app, by bounded work."""

from __future__ import annotations

import io
import random as randomness
import struct
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, ImageFile

import attnviz
from attnviz.models import picture_files, pictures
from attnviz.models.picture_files import BadImage, TooMuchWork
from attnviz.models.pictures import decode, picture_from
from attnviz.ui.inputs import uploads
from attnviz.ui.inputs.samples import FOLDER
from tests.ui.test_uploads import BLUE, GREEN, RED, WHITE, corners, near, quarters, saved

# ---- files of every kind


def s15(*values: float) -> bytes:
    """Numbers as a colour profile writes them."""
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def profile(red: tuple, green: tuple, blue: tuple, gamma: float, space: bytes = b"RGB ") -> bytes:
    """A colour profile of three primaries (XYZ under D50) and one gamma."""
    curve = b"curv\0\0\0\0" + struct.pack(">IH2x", 1, round(gamma * 256))
    tags = {b"wtpt": b"XYZ \0\0\0\0" + s15(0.9642, 1, 0.8249), b"cprt": b"text\0\0\0\0none\0\0\0\0"}
    tags[b"desc"] = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"mine\0" + bytes(79)
    if space == b"GRAY":
        tags[b"kTRC"] = curve
    else:
        for name, primary in ((b"r", red), (b"g", green), (b"b", blue)):
            tags[name + b"XYZ"], tags[name + b"TRC"] = b"XYZ \0\0\0\0" + s15(*primary), curve
    table, body, at = b"", b"", 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        data += bytes(-len(data) % 4)
        table, body = table + struct.pack(">4sII", name, at + len(body), len(data)), body + data
    head = bytearray(128)
    head[0:4], head[8:12] = struct.pack(">I", at + len(body)), bytes([2, 0x40, 0, 0])
    head[12:24], head[36:40], head[68:80] = b"mntr" + space + b"XYZ ", b"acsp", s15(0.9642, 1, 0.8249)
    return bytes(head) + struct.pack(">I", len(tags)) + table + body


P3 = profile((0.5151, 0.2412, -0.0011), (0.2920, 0.6922, 0.0419), (0.1571, 0.0666, 0.7841), 2.2)
GREY = profile((), (), (), 1.0, b"GRAY")
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def turned_jpeg() -> bytes:
    """A photograph larger than what is kept, as a camera held sideways stores it."""
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = quarters(3000, 2400).transpose(Image.Transpose.ROTATE_90)
    return saved(stored, "JPEG", quality=95, exif=exif)


def sixteen_bits() -> bytes:
    """A 16-bit grey PNG from black to white."""
    return saved(Image.fromarray(np.linspace(0, 65535, 64 * 48).reshape(48, 64).astype(np.uint16)))


def clear_three() -> bytes:
    """The sample "three" as ink on transparent ground whose hidden colour is black."""
    with Image.open(FOLDER / "vit-digits" / "three.png") as opened:
        ink = opened.convert("L")
    picture = Image.new("RGBA", ink.size, (0, 0, 0, 255))
    picture.putalpha(ink.point(lambda light: 255 - light))
    return saved(picture)


FILES: dict[str, Callable[[], bytes]] = {
    "JPEG turned by EXIF": turned_jpeg,
    "16-bit PNG": sixteen_bits,
    "transparent PNG": clear_three,
    "JPEG in Display P3": lambda: saved(quarters(), "JPEG", quality=95, icc_profile=P3),
    "CMYK JPEG": lambda: saved(quarters(mode="CMYK"), "JPEG", quality=95),
    "palette PNG": lambda: saved(quarters(mode="P")),
    "two photographs in one": lambda: saved(quarters(3000, 2400), "MPO", save_all=True, append_images=[quarters()]),
    "HEIC": lambda: saved(quarters(), "HEIF", quality=95),
    "AVIF": lambda: saved(quarters(), "AVIF", quality=95),
    "WebP": lambda: saved(quarters(), "WEBP", lossless=True),
}


@pytest.fixture(scope="module")
def digits() -> attnviz.models.ImageModel:
    """The small shipped model."""
    return attnviz.load("vit-digits")


@pytest.mark.parametrize("name", FILES)
def test_a_script_sees_what_the_app_sees(name: str, digits: attnviz.models.ImageModel, tmp_path: Path):
    raw = FILES[name]()
    path = tmp_path / "picture"
    path.write_bytes(raw)
    uploaded = digits.prepare(uploads.decode(raw).image)
    with Image.open(path) as lazy, path.open("rb") as file:
        size = lazy.size
        ways = {"PIL": lazy, "path": path, "str": str(path), "bytes": raw, "file": file, "memory": io.BytesIO(raw)}
        for way, given in ways.items():
            sample = digits.prepare(given)
            assert sample.digest == uploaded.digest, way
            assert sample.crop == uploaded.crop, way
        assert lazy.size == size, "the script's own picture is left as it was"


def test_a_transparent_three_is_a_three(digits: attnviz.models.ImageModel):
    trace = digits(digits.prepare(Image.open(io.BytesIO(clear_three()))))
    assert trace.logits["class"].argmax() == 3


@pytest.mark.parametrize("name", ["JPEG turned by EXIF", "16-bit PNG", "transparent PNG", "CMYK JPEG"])
def test_a_loaded_picture_is_treated_alike(name: str):
    raw = FILES[name]()
    with Image.open(io.BytesIO(raw)) as opened:
        opened.load()
        found = picture_from(opened)
    expected = decode(raw)
    assert max(found.size) <= pictures.MAX_SIDE
    small = [np.asarray(p.resize((8, 8), Image.Resampling.BOX)).astype(int) for p in (found, expected)]
    assert np.abs(small[0] - small[1]).max() <= 2


def test_what_comes_out_goes_in_unchanged():
    once = decode(FILES["JPEG in Display P3"]())
    assert picture_from(once).tobytes() == once.tobytes()


def test_arrays_and_tensors_are_read_by_their_stated_layout(random: torch.Generator):
    values = torch.randint(0, 256, (4, 7, 9), generator=random, dtype=torch.uint8)
    rgb = values[:3].permute(1, 2, 0).numpy()
    expected = Image.fromarray(rgb)
    same = [rgb, rgb / 255, (rgb / 255).astype(np.float32), values[:3], values[:3] / 255, (values[:3] / 255).double()]
    assert all(pixels_of(given) == expected.tobytes() for given in same)
    grey = Image.fromarray(rgb[..., 0]).convert("RGB").tobytes()
    assert all(pixels_of(given) == grey for given in (rgb[..., 0], values[:1], values[:1] / 255))
    clear = decode(saved(Image.fromarray(values.permute(1, 2, 0).numpy()))).tobytes()
    assert all(pixels_of(given) == clear for given in (values.permute(1, 2, 0).numpy(), values))


def pixels_of(given: object) -> bytes:
    """The pixels a model is given, by the same steps as `prepare`."""
    return picture_from(
        attnviz.models.image.channels_last(given) if isinstance(given, torch.Tensor) else given
    ).tobytes()


WRONG: dict[str, tuple[object, type[Exception], str]] = {
    "a number": (7, TypeError, "int"),
    "nothing": (None, TypeError, "NoneType"),
    "a text file": (io.StringIO("x"), TypeError, "StringIO that gives str"),
    "channels first": (np.zeros((3, 8, 8), np.uint8), ValueError, r"\(3, 8, 8\)"),
    "a batch": (torch.zeros(1, 3, 8, 8), ValueError, r"\(1, 3, 8, 8\)"),
    "channels last": (torch.zeros(8, 8, 3), ValueError, r"\(8, 8, 3\)"),
    "floats of bytes": (np.full((8, 8), 200.0), ValueError, "200"),
    "not a number": (np.full((8, 8), np.nan), ValueError, "nan"),
    "wide integers": (np.zeros((8, 8), np.int64), ValueError, "int64"),
    "no pixels": (np.zeros((0, 8), np.uint8), ValueError, r"\(0, 8\)"),
    "no width": (Image.new("RGB", (0, 8)), ValueError, "0 x 8"),
    "an unknown white": (Image.new("F", (8, 8)), ValueError, "mode F"),
    "a document": (b"%PDF-1.7", BadImage, "PDF"),
    "no such file": ("/nowhere/picture.png", FileNotFoundError, "nowhere"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_holds_no_picture_is_refused_in_words(name: str, digits: attnviz.models.ImageModel):
    given, error, words = WRONG[name]
    with pytest.raises(error, match=words):
        digits.prepare(given)


# ---- colours


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "HEIF"])
def test_a_colour_profile_is_converted(kind: str):
    options = {"quality": 100} if kind in ("JPEG", "AVIF", "HEIF") else {"lossless": True} if kind == "WEBP" else {}
    plain = np.asarray(decode(saved(Image.new("RGB", (32, 32), (200, 100, 50)), kind, **options)))[16, 16].astype(int)
    found = np.asarray(decode(saved(Image.new("RGB", (32, 32), (200, 100, 50)), kind, icc_profile=P3, **options)))[
        16, 16
    ]
    assert found[0] >= plain[0] + 10  # the red of a wide gamut is redder than sRGB's
    assert found[2] <= plain[2] - 5
    clear = Image.new("RGBA", (8, 8), (200, 100, 50, 0))
    assert decode(saved(clear, icc_profile=P3)).getpixel((4, 4)) == WHITE


@pytest.mark.parametrize(
    ("mode", "given"), [("RGB", b"nonsense"), ("RGB", GREY), ("L", P3), ("RGB", P3[:200]), ("CMYK", P3)]
)
def test_a_profile_that_cannot_be_used_fails_nothing(mode: str, given: bytes):
    kind = "JPEG" if mode == "CMYK" else "PNG"
    raw, plain = (saved(quarters(mode=mode), kind, icc_profile=profile) for profile in (given, None))
    assert decode(raw).tobytes() == decode(plain).tobytes()


def test_srgb_leaves_pixels_alone():
    noisy = Image.effect_noise((40, 30), 90).convert("RGB")
    raw, plain = (saved(noisy, icc_profile=icc) for icc in (SRGB, None))
    assert decode(raw).tobytes() == decode(plain).tobytes()


def test_a_grey_profile_is_converted():
    raw = saved(Image.new("L", (8, 8), 100), icc_profile=GREY)
    assert decode(raw).getpixel((4, 4))[0] > 150  # 100 of 255 in linear light is a bright grey
    clear = Image.new("LA", (8, 8), (100, 0))
    clear.paste((100, 255), (0, 0, 4, 8))
    found = decode(saved(clear, icc_profile=GREY))
    assert [found.getpixel((x, 4))[0] for x in (1, 6)] == [decode(raw).getpixel((4, 4))[0], 255]


def test_a_transparent_grey_of_sixteen_bits_is_white():
    grey = np.full((8, 8), 30_000, np.uint16)
    grey[:, :4] = 1_000
    raw = saved(Image.fromarray(grey), transparency=30_000)
    assert [decode(raw).getpixel((x, 4))[0] for x in (1, 6)] == [3, 255]


# ---- how much work a file asks for


def segments(raw: bytes, marker: int) -> list[bytes]:
    """The scans (0xDA) of a JPEG, with the tables before each."""
    parts = raw.split(bytes([0xFF, marker]))
    return [bytes([0xFF, marker]) + part for part in parts[1:]]


def many_scans(count: int) -> bytes:
    """A progressive JPEG whose last scan comes again and again."""
    raw = saved(quarters(), "JPEG", quality=95, progressive=True)
    last = segments(raw[:-2], 0xDA)[-1]
    return raw[:-2] + last * count + raw[-2:]


def chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_with(kind: bytes, data: bytes, count: int) -> bytes:
    """A PNG with so many chunks behind its header."""
    raw = saved(quarters())
    return raw[:33] + chunk(kind, data) * count + raw[33:]


def webp_with(count: int) -> bytes:
    """A WebP with so many empty chunks at its end."""
    raw = saved(quarters(), "WEBP", lossless=True) + b"EXIF\0\0\0\0" * count
    return raw[:4] + struct.pack("<I", len(raw) - 8) + raw[8:]


def boxes_with(kind: bytes, size: int, count: int, form: str = "AVIF") -> bytes:
    """An AVIF or HEIC with boxes of a kind at its end."""
    return saved(quarters(), form) + (struct.pack(">I4s", 8 + size, kind) + bytes(size)) * count


PACKED = b"p\0\0" + zlib.compress(bytes(900_000))
WORK: dict[str, Callable[[], bytes]] = {
    "scans": lambda: many_scans(8_000),
    "fill bytes": lambda: b"\xff\xd8" + b"\xff" * 5_000_000 + saved(quarters(), "JPEG")[2:],
    "other bytes": lambda: b"\xff\xd8\xff\xe0\0\2" + b"x" * 5_000_000 + saved(quarters(), "JPEG")[2:],
    "empty segments": lambda: b"\xff\xd8" + b"\xff\xe3\0\2" * 1_000_000 + saved(quarters(), "JPEG")[2:],
    "markers alone": lambda: b"\xff\xd8" + b"\xff\xd0" * 1_000_000 + saved(quarters(), "JPEG")[2:],
    "profiles": lambda: png_with(b"iCCP", PACKED, 9_000),
    "packed texts": lambda: png_with(b"zTXt", PACKED, 9_000),
    "chunks": lambda: png_with(b"tEXt", b"a\0b", 100_000),
    "pieces": lambda: png_with(b"IDAT", b"", 100_000),
    "chunks of a WebP": lambda: webp_with(100_000),
    "boxes": lambda: boxes_with(b"free", 0, 100_000),
    "boxes of a HEIC": lambda: boxes_with(b"free", 0, 100_000, "HEIF"),
    "index": lambda: boxes_with(b"moov", 9_000_000, 1),
}


@pytest.mark.parametrize("name", WORK)
def test_a_file_of_far_too_many_parts_is_refused_before_it_is_opened(name: str, monkeypatch: pytest.MonkeyPatch):
    def never(*args: object, **options: object):
        raise AssertionError("a decoder was started")

    raw = WORK[name]()
    assert len(raw) <= picture_files.MAX_BYTES
    monkeypatch.setattr(Image, "open", never)
    with pytest.raises(TooMuchWork):
        decode(raw)


@pytest.mark.parametrize("name", ["scans", "empty segments", "chunks of a WebP", "boxes"])
def test_counting_stops_at_the_limit(name: str, monkeypatch: pytest.MonkeyPatch):
    counted = []
    plain = picture_files.at_most
    monkeypatch.setattr(picture_files, "at_most", lambda *given: (counted.append(given), plain(*given)))
    with pytest.raises(TooMuchWork):
        decode(WORK[name]())
    assert len(counted) < 40_000


def test_a_large_canvas_of_a_webp_is_refused_before_room_is_made_for_it(monkeypatch: pytest.MonkeyPatch):
    raw = bytearray(saved(quarters(), "WEBP", lossless=True, exif=Image.Exif().tobytes() + b"\0", icc_profile=P3))
    assert raw[12:16] == b"VP8X"
    raw[24:30] = (12_999).to_bytes(3, "little") * 2
    monkeypatch.setattr(Image, "open", lambda *a, **o: pytest.fail("a decoder was started"))
    with pytest.raises(BadImage, match="13,000 x 13,000"):
        decode(bytes(raw))


GENEROUS: dict[str, Callable[[], bytes]] = {
    "a JPEG of 90 scans": lambda: many_scans(80),
    "a JPEG with padding": lambda: b"\xff\xd8" + b"\xff" * 4_000 + saved(quarters(), "JPEG", quality=95)[2:],
    "a JPEG with a thumbnail and makers' notes": lambda: saved(
        quarters(), "JPEG", quality=95, comment=saved(quarters(), "JPEG", progressive=True) * 8
    ),
    "a JPEG with bytes behind its end": lambda: saved(quarters(), "JPEG", quality=95) + many_scans(200) * 2,
    "a PNG in small pieces": lambda: png_with(b"tEXt", b"a\0b", 500),
    "an animated WebP": lambda: saved(
        quarters(), "WEBP", lossless=True, save_all=True, append_images=[quarters()] * 30
    ),
    "a HEIC of tiles": lambda: saved(quarters(640, 480), "HEIF", quality=95, tile_size=64),
}


@pytest.mark.parametrize("name", GENEROUS)
def test_files_as_cameras_and_programs_write_them_are_read(name: str):
    assert near(corners(decode(GENEROUS[name]())), [RED, GREEN, BLUE, WHITE])


# ---- damaged files


def without_palette() -> bytes:
    """A palette PNG whose palette is left out."""
    raw = saved(quarters(mode="P"))
    at = raw.index(b"PLTE") - 4
    length = struct.unpack_from(">I", raw, at)[0]
    return raw[:at] + raw[at + 12 + length :]


def test_a_palette_picture_without_a_palette_gets_a_sentence():
    with pytest.raises(BadImage):
        decode(without_palette())
    with pytest.raises(BadImage):
        picture_from(Image.open(io.BytesIO(without_palette())))


@pytest.mark.parametrize("error", [AssertionError, RuntimeError, KeyError, zlib.error, RecursionError, SystemError])
def test_whatever_a_decoder_raises_becomes_the_sentence(error: type[Exception], monkeypatch: pytest.MonkeyPatch):
    def fails(self: ImageFile.ImageFile):
        raise error("of a decoder")

    monkeypatch.setattr(ImageFile.ImageFile, "load", fails)
    with pytest.raises(BadImage):
        decode(saved(quarters()))


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
def test_what_is_no_fault_of_the_file_is_passed_on(error: type[BaseException], monkeypatch: pytest.MonkeyPatch):
    def fails(self: ImageFile.ImageFile):
        raise error

    monkeypatch.setattr(ImageFile.ImageFile, "load", fails)
    with pytest.raises(error):
        decode(saved(quarters()))


FUZZED: dict[str, Callable[[], bytes]] = {
    "PNG": lambda: saved(quarters(24, 16)),
    "palette PNG": lambda: saved(quarters(24, 16, "P"), transparency=1),
    "JPEG": lambda: saved(quarters(24, 16), "JPEG", icc_profile=P3),
    "progressive": lambda: saved(quarters(24, 16), "JPEG", progressive=True),
    "WEBP": lambda: saved(quarters(24, 16), "WEBP"),
    "AVIF": lambda: saved(quarters(24, 16), "AVIF"),
    "HEIF": lambda: saved(quarters(24, 16), "HEIF"),
}


@pytest.mark.parametrize("name", FUZZED)
@pytest.mark.filterwarnings("ignore::UserWarning")  # of PIL about damaged EXIF
def test_a_damaged_file_is_a_picture_or_a_sentence(name: str):
    raw, dice = FUZZED[name](), randomness.Random(name)
    for _ in range(60):
        damaged = bytearray(raw)
        for _ in range(dice.randint(1, 8)):
            at, how = dice.randrange(len(damaged)), dice.randrange(4)
            if how == 0:
                damaged[at] = dice.randrange(256)
            elif how == 1:
                del damaged[at : at + dice.randint(1, 12)]
            elif how == 2:
                damaged[at:at] = dice.randbytes(dice.randint(1, 12))
            else:
                damaged[at : at + 4] = dice.choice([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff"])
        with suppress(BadImage):
            assert decode(bytes(damaged)).mode == "RGB"


# ---- formats


@pytest.mark.parametrize("cut", [1, 2, 12])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_that_lacks_its_end_is_read(cut: int, progressive: bool):
    raw = saved(quarters(640, 480), "JPEG", quality=95, progressive=progressive)
    assert near(corners(decode(raw[:-cut])), [RED, GREEN, BLUE, WHITE])


def noise() -> bytes:
    """A baseline JPEG without any flat area."""
    return saved(Image.effect_noise((320, 240), 90).convert("RGB"), "JPEG", quality=90)


@pytest.mark.parametrize(("share", "read"), [(0.98, True), (0.94, True), (0.85, False), (0.5, False), (0.1, False)])
def test_a_jpeg_may_lack_a_little_at_its_end(share: float, read: bool):
    raw = noise()
    if read:
        assert decode(raw[: int(len(raw) * share)]).size == (320, 240)
    else:
        with pytest.raises(BadImage, match="cut short"):
            decode(raw[: int(len(raw) * share)])


BRANDS = {
    "hevc": "HEIC",
    "heim": "HEIC",
    "heic": "HEIC",
    "msf1": "HEIF",
    "mif1": "HEIF",
    "avis": "AVIF",
    "avif": "AVIF",
    "jxl ": "JPEG XL",
    "jp2 ": "JPEG 2000",
    "crx ": "raw",
    "isom": "video",
    "qt  ": "video",
}
HEADS = {
    b"\0\0\0\x0cjP  \r\n\x87\n": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL \r\n\x87\n": "JPEG XL",
    b"8BPS\0\1": "Photoshop",
    b"gimp xcf v011": "GIMP",
    b"\0\0\1\0": "icon",
    b"RIFF\0\0\0\0AVI ": "video",
    b"RIFF\0\0\0\0WEBP": "WebP",
    b"\xff\xd8\xff\xe0": "JPEG",
}


@pytest.mark.parametrize("brand", BRANDS)
def test_a_container_is_called_by_its_name(brand: str):
    assert BRANDS[brand] in picture_files.content_of(b"\0\0\0\x18ftyp" + brand.encode() + bytes(12))


@pytest.mark.parametrize("head", HEADS)
def test_a_file_is_called_by_its_name(head: bytes):
    assert HEADS[head] in picture_files.content_of(head + bytes(40))


@pytest.mark.parametrize("name", [name for name in picture_files.WALKS if name in picture_files.OURS])
def test_a_damaged_file_of_ours_is_not_said_to_be_another_kind(name: str):
    head = next((h for h, said in picture_files.SIGNATURES.items() if said == name), b"RIFF\0\0\0\0WEBP")
    brand = next((b for b, said in picture_files.BRANDS.items() if said == name), None)
    raw = b"\0\0\0\x18ftyp" + brand + bytes(40) if brand else head + bytes(40)
    with pytest.raises(BadImage, match="cut short or damaged"):
        decode(raw)
