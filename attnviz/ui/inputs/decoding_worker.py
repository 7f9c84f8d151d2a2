"""The process that reads pictures for the app: one file after another comes in by a pipe, pixels or a sentence go out.

`ui/inputs/decoding.py` starts it by its path. It knows neither torch nor Streamlit, so it starts in a moment; it may be
ended at any time, and it ends by itself when the app does.
"""

from __future__ import annotations

import os
import struct
import sys
from io import BufferedIOBase
from pathlib import Path
from types import ModuleType
from typing import cast

try:
    import resource
except ImportError:  # Windows sets no such limits
    resource = None

PACKAGE = Path(__file__).resolve().parents[2]
MEMORY = 3 * 2**30  # bytes: twice what the largest picture takes
SECONDS = 60  # of the processor for one picture: the app ends it long before, this is for when the app is gone
LENGTH = struct.Struct(">Q")  # before every file
ANSWER = struct.Struct(">cIIQ")  # before every answer: its kind, width, height, and how many bytes follow
READY, PICTURE, SENTENCE, NO_MEMORY = b"r", b"p", b"s", b"m"  # kinds


def import_lightly() -> None:
    """Let modules of the package be imported without the package itself, which imports torch."""
    for name, folder in (("attnviz", PACKAGE), ("attnviz.models", PACKAGE / "models")):
        package = ModuleType(name)
        package.__path__ = [str(folder)]
        sys.modules[name] = package


def limit(kind: str, most: int) -> None:
    """Let the system stop this process beyond so much; does nothing where it has no such limit."""
    if resource is not None and hasattr(resource, kind):
        number = getattr(resource, kind)
        _, hard = resource.getrlimit(number)
        try:
            resource.setrlimit(number, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
        except (ValueError, OSError):  # macOS has some by name only
            return


def answer(raw: bytes) -> tuple[bytes, bytes]:
    """What a file is: pixels, or why there are none. Head and body, which may be large and are not copied."""
    from attnviz.models.pictures import BadImage, decode

    try:
        picture = decode(raw)
        pixels = picture.tobytes()
        return ANSWER.pack(PICTURE, *picture.size, len(pixels)), pixels
    except BadImage as error:
        sentence = str(error).encode()
        return ANSWER.pack(SENTENCE, 0, 0, len(sentence)), sentence
    except MemoryError:
        return ANSWER.pack(NO_MEMORY, 0, 0, 0), b""


def serve(files: BufferedIOBase, answers: BufferedIOBase) -> None:
    """Answer until nobody asks any more."""
    while head := files.read(LENGTH.size):
        limit("RLIMIT_CPU", int(sum(os.times()[:2])) + SECONDS)
        answers.writelines(answer(files.read(*LENGTH.unpack(head))))
        answers.flush()


def main() -> None:
    """Say that it is ready, and serve."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not come between
    sys.path.extend(path for path in sys.argv[1:] if path not in sys.path)
    import_lightly()
    import attnviz.models.pictures  # noqa: F401  # now, so that the first picture need not wait

    limit("RLIMIT_AS", MEMORY)
    answers.write(ANSWER.pack(READY, 0, 0, 0))
    answers.flush()
    serve(cast(BufferedIOBase, sys.stdin.buffer), answers)


if __name__ == "__main__":
    main()
