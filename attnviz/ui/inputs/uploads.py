"""Pictures from outside: checked and decoded in a process of their own, kept in memory only, never written to disk.

Every file becomes an upright RGB picture or a BadImage whose message is one sentence for the visitor.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from PIL import Image

from attnviz.models.picture_files import BadImage
from attnviz.ui.inputs.decoding import DECODERS

__all__ = ["BadImage", "Picture", "decode", "picture_of"]


class Picture(NamedTuple):
    """A picture and its digest, the only key it is cached under."""

    image: Image.Image  # upright RGB
    digest: str


def picture_of(image: Image.Image) -> Picture:
    """A decoded picture with the digest of its size and pixels."""
    return Picture(image, hashlib.sha256(repr(image.size).encode() + image.tobytes()).hexdigest())


def decode(raw: bytes) -> Picture:
    """An upload as an upright RGB picture. Raises BadImage with a sentence for the visitor, Busy, MemoryError."""
    return picture_of(DECODERS.decode(raw))
