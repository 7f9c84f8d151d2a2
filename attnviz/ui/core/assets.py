"""Files of assets/ that pages read: one that is missing or damaged names itself and how to restore it."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from attnviz.models import DamagedFile
from attnviz.paths import ROOT

DAMAGED = (OSError, ValueError, LookupError, TypeError, AttributeError, SyntaxError)  # what readers of files raise


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Read a file, and make something of it, inside this. Raises DamagedFile for whatever goes wrong."""
    try:
        yield
    except FileNotFoundError as error:
        raise DamagedFile(name_of(path), "is missing", name_of(path.parent)) from error
    except DAMAGED as error:
        raise DamagedFile(name_of(path), "cannot be read") from error


def name_of(path: Path) -> str:
    """What git calls a file; its whole path where it lies elsewhere."""
    return (path.relative_to(ROOT) if path.is_relative_to(ROOT) else path).as_posix()


def as_data_address(path: Path) -> str | None:
    """A small PNG as an address that holds the picture itself; None where the file is missing or cannot be read.

    A picture that Streamlit serves is forgotten whenever a run is cut short before it asks for that picture again, and
    the browser of a tab that has just come back to a new server then finds nothing under its address.
    """
    try:
        return data_address(path.read_bytes(), "PNG")
    except OSError:
        return None


def picture_address(picture: Image.Image, kind: Literal["PNG", "JPEG"], **look: Any) -> str:
    """A picture as an address that holds it itself; `look` goes to the encoder."""
    file = io.BytesIO()
    picture.save(file, kind, **look)
    return data_address(file.getvalue(), kind)


def data_address(data: bytes, kind: Literal["PNG", "JPEG"]) -> str:
    """The bytes of a picture file as an address."""
    return f"data:image/{kind.lower()};base64,{base64.b64encode(data).decode()}"
