"""Files that may hold a picture, before any decoder runs: what they are, and how much work they ask for.

A file of a few hundred kilobytes can keep a decoder busy for minutes: thousands of scans, colour profiles, empty parts.
So parts are counted first, by walks that cost no more than reading the file, and a file with far more of them than any
camera or program writes is refused.

To read another format: its extensions in FORMATS, a walk in WALKS, its first bytes in SIGNATURES or BRANDS.
"""

from __future__ import annotations

import re
import struct
from collections import Counter
from collections.abc import Callable

FORMATS = {  # what PIL calls a format -> how the names of its files end; no other decoder ever runs
    "PNG": ("png", "apng"),
    "JPEG": ("jpg", "jpeg", "jpe", "jfif", "pjpeg", "pjp"),
    "WEBP": ("webp",),
    "AVIF": ("avif",),
    "HEIF": ("heic", "heif", "hif"),
}
EXTENSIONS = tuple(extension for extensions in FORMATS.values() for extension in extensions)
KNOWN_AS = "PNG, JPEG, WebP, AVIF or HEIC"
CUT = "This picture is cut short or damaged. Save or download it again."
MAX_BYTES = 10_000_000
MAX_PIXELS = 25_000_000  # 5000 x 5000; decoding more would take gigabytes
MIN_SIDE = 4
MAX_RATIO = 20  # of the long to the short side: beyond it the middle square is a sliver
MAX_SCANS = 100  # of a progressive JPEG: about 10 are usual, and each goes over the whole picture
MAX_SEGMENTS = 1_000  # of a JPEG: 10 MB in the largest possible segments are 160
MAX_IDLE = 65_536  # bytes between the segments of a JPEG, which belong to none
MAX_PIECES = 20_000  # of the pixels of a PNG: 10 MB in pieces of 512 bytes
MAX_CHUNKS = 1_000  # other chunks of a PNG
MAX_PACKED = 100  # chunks of a PNG that hold a megabyte each once they are unpacked
MAX_FRAMES = 10_000  # chunks and frames of a WebP
MAX_BOXES = 5_000  # of an AVIF or HEIC; a photo of 48 tiles has about 100
MAX_INDEX = 262_144  # bytes of all boxes of an AVIF or HEIC that list parts of the picture; about 30 for each part

PHOTO = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs")
BRANDS = {  # the four letters after "ftyp" -> what such a file is
    **dict.fromkeys(PHOTO, "a HEIC picture"),
    **dict.fromkeys((b"mif1", b"mif2", b"msf1", b"miaf"), "a HEIF picture"),
    **dict.fromkeys((b"avif", b"avis"), "an AVIF picture"),
    **dict.fromkeys((b"jp2 ", b"jpx ", b"jpm ", b"jph "), "a JPEG 2000 picture"),
    b"jxl ": "a JPEG XL picture",
    b"crx ": "a raw photo of a camera",
}
SIGNATURES = {  # how files begin
    b"\x89PNG\r\n\x1a\n": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"GIF8": "a GIF picture",
    b"BM": "a BMP picture",
    b"II*\0": "a TIFF picture or a raw photo",
    b"MM\0*": "a TIFF picture or a raw photo",
    b"II+\0": "a TIFF picture",
    b"MM\0+": "a TIFF picture",
    b"II\xbc": "a JPEG XR picture",
    b"IIRO": "a raw photo of a camera",
    b"IIU\0": "a raw photo of a camera",
    b"FUJIFILMCCD-RAW": "a raw photo of a camera",
    b"\0\0\0\x0cjP  ": "a JPEG 2000 picture",
    b"\xff\x4f\xff\x51": "a JPEG 2000 picture",
    b"\0\0\0\x0cJXL ": "a JPEG XL picture",
    b"\xff\x0a": "a JPEG XL picture",
    b"8BPS": "a Photoshop document",
    b"gimp xcf": "a GIMP document",
    b"\0\0\1\0": "an icon",
    b"v/1\x01": "an OpenEXR picture",
    b"qoif": "a QOI picture",
    b"%PDF": "a PDF document",
    b"%!PS": "a PostScript document",
    b"PK\x03\x04": "a ZIP archive",
    b"\x1a\x45\xdf\xa3": "a video",
}
OURS = ("a PNG picture", "a JPEG picture", "a WebP picture", "an AVIF picture", "a HEIC picture", "a HEIF picture")


class BadImage(ValueError):
    """A picture that cannot be used; the message is a sentence for the visitor."""


class TooMuchWork(BadImage):
    """A file of far more parts than a picture needs."""


def content_of(raw: bytes) -> str:
    """What a file seems to hold, in words, by its first bytes."""
    start = raw[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if b"<svg" in start:
        return "an SVG drawing"
    if start.startswith((b"<!doctype html", b"<html")):
        return "a web page"
    if raw[4:8] == b"ftyp":
        return BRANDS.get(raw[8:12], "a video")
    if raw[:4] == b"RIFF":
        return "a WebP picture" if raw[8:12] == b"WEBP" else "a sound or a video"
    return next((name for head, name in SIGNATURES.items() if raw.startswith(head)), "something else")


def check_size(width: int, height: int) -> None:
    """Refuse a picture by the size in its header, before a byte of it is decoded. Raises BadImage."""
    size = f"This picture is {width:,} x {height:,} pixels"
    if width * height > MAX_PIXELS:
        raise BadImage(f"{size}; the limit is {MAX_PIXELS // 10**6} million in all. Make it smaller and try again.")
    if min(width, height) < MIN_SIDE and max(width, height) < MAX_RATIO * MIN_SIDE:
        raise BadImage(f"{size}, too small to show anything. Use one of at least {MIN_SIDE} x {MIN_SIDE}.")
    if max(width, height) > MAX_RATIO * min(width, height):
        raise BadImage(f"{size}. The model sees the square in its middle, here a sliver. Crop it and try again.")


def check_work(raw: bytes) -> int | None:
    """Count what a decoder would have to go through; of a JPEG without an end, how many bytes are whole parts.

    Raises TooMuchWork, BadImage.
    """
    walk = WALKS.get(content_of(raw))
    return walk(raw) if walk else None


def at_most(limit: int, found: int, what: str) -> None:
    """Refuse a file with more parts of a kind than any picture needs. Raises TooMuchWork."""
    if found > limit:
        raise TooMuchWork(f"This file has more than {limit:,} {what}, far more than a picture needs. Save it again.")


ALONE = frozenset([0x01, 0xC8, *range(0xD0, 0xDA), *range(0xF0, 0xFE)])  # markers of a JPEG without a length
MARKER = re.compile(rb"\xff[^\x00\xff]")
SCAN_ENDS = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # within a scan, FF 00 is a byte FF, and D0 to D7 restart the code


def walk_jpeg(raw: bytes) -> int | None:
    """Count scans, segments and the bytes between them. Raises TooMuchWork.

    None where the file says that it ends, else how many of its bytes are whole segments or pixels.
    """
    at, scans, segments, idle = 2, 0, 0, 0
    while found := MARKER.search(raw, at):
        marker, segments, idle = raw[found.start() + 1], segments + 1, idle + found.start() - at
        at = found.end()
        if marker == 0xD9 and scans:
            return None
        if marker not in ALONE:
            at += max(int.from_bytes(raw[at : at + 2]), 2)
        if at > len(raw):
            return found.start()
        if marker == 0xDA:
            scans += 1
            ends = SCAN_ENDS.search(raw, at)
            at = ends.start() if ends else len(raw)
        at_most(MAX_SCANS, scans, "scans")
        at_most(MAX_SEGMENTS, segments, "segments")
        at_most(MAX_IDLE, idle, "bytes between its segments")
    at_most(MAX_IDLE, idle + len(raw) - at, "bytes between its segments")
    return len(raw)


def walk_png(raw: bytes) -> None:
    """Count pieces of pixels, other chunks, and those that are packed. Raises TooMuchWork."""
    kinds: Counter[bytes] = Counter()
    at = 8
    while at + 8 <= len(raw):
        length, kind = struct.unpack_from(">I4s", raw, at)
        kinds[kind] += 1
        at += 12 + length
    pieces = kinds[b"IDAT"] + kinds[b"fdAT"] + kinds[b"fcTL"]
    at_most(MAX_PACKED, kinds[b"iCCP"] + kinds[b"zTXt"] + kinds[b"iTXt"], "packed chunks")
    at_most(MAX_PIECES, pieces, "pieces")
    at_most(MAX_CHUNKS, kinds.total() - pieces, "chunks")


def walk_webp(raw: bytes) -> None:
    """Count chunks, of which every frame is one. Raises TooMuchWork, BadImage."""
    if raw[12:16] == b"VP8X" and len(raw) >= 30:  # a decoder makes room for the canvas before it says how large it is
        check_size(*(1 + int.from_bytes(raw[at : at + 3], "little") for at in (24, 27)))
    at, chunks = 12, 0
    while at + 8 <= len(raw):
        (length,) = struct.unpack_from("<I", raw, at + 4)
        at, chunks = at + 8 + length + length % 2, chunks + 1
        at_most(MAX_FRAMES, chunks, "frames")


WITHIN = {b"meta": 4, b"iprp": 0, b"ipco": 0}  # boxes of boxes -> bytes of theirs that come before these
INDEXES = (b"iinf", b"iloc", b"ipma", b"iref", b"grpl", b"moov")  # they list parts, and decoders look for each in all


def walk_boxes(raw: bytes) -> None:
    """Count boxes and the bytes of those that list parts of the picture. Raises TooMuchWork."""
    boxes = index = 0
    spans = [(0, len(raw))]
    while spans:
        at, end = spans.pop()
        while at + 8 <= end:
            size, kind = struct.unpack_from(">I4s", raw, at)
            head = 16 if size == 1 else 8  # a size of 1 says that the real one stands behind the kind
            size = int.from_bytes(raw[at + 8 : at + 16]) if size == 1 else size or end - at
            inner, at = at + head, min(at + max(size, head), end)
            boxes, index = boxes + 1, index + (at - inner) * (kind in INDEXES)
            at_most(MAX_BOXES, boxes, "boxes")
            at_most(MAX_INDEX, index, "bytes that list its parts")
            if kind in WITHIN:
                spans.append((inner + WITHIN[kind], at))


WALKS: dict[str, Callable[[bytes], int | None]] = {
    "a JPEG picture": walk_jpeg,
    "a PNG picture": walk_png,
    "a WebP picture": walk_webp,
    **dict.fromkeys(("an AVIF picture", "a HEIC picture", "a HEIF picture"), walk_boxes),
}
