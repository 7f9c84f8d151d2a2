"""How pictures are made ready for a Hugging Face model: our square, its processor's size, mean and deviation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attnviz.hub.errors import CannotOpen
from attnviz.models.image import Preparation


def preparation_of(processor: Any, config: Any) -> tuple[Preparation, list[int]]:
    """The preparation, and the sizes the network may read, best first. Raises CannotOpen for other arithmetic."""
    values = settings(processor)
    if values.get("do_rescale") is False or abs(float(values.get("rescale_factor", 1 / 255)) * 255 - 1) > 1e-3:
        raise CannotOpen("its processor scales pixels in a way that is not known here; expected values in 0 to 1")
    channels = int(getattr(config, "num_channels", 3) or 3)
    if channels not in (1, 3):
        raise CannotOpen(f"it reads pictures of {channels} channels; expected one or three")
    plain = values.get("do_normalize") is False
    mean = (0.0,) * channels if plain else numbers(values.get("image_mean"), channels, 0.5)
    std = (1.0,) * channels if plain else numbers(values.get("image_std"), channels, 0.5)
    sizes = [side(values.get(name)) for name in ("crop_size", "size")] + [side(getattr(config, "image_size", None))]
    known = list(dict.fromkeys(size for size in sizes if size))
    if not known:
        raise CannotOpen("neither its processor nor its configuration says how large its pictures are")
    return Preparation(known[0], mean, std), known


def settings(processor: Any) -> Mapping[str, Any]:
    """What a processor of pictures says of itself; that of a processor with two sides is inside it."""
    inner = getattr(processor, "image_processor", processor)
    return inner.to_dict() if hasattr(inner, "to_dict") else {}


def numbers(given: Any, channels: int, default: float) -> tuple[float, ...]:
    """One number for each channel."""
    if given is None:
        return (default,) * channels
    values = [float(value) for value in (given if isinstance(given, list | tuple) else [given])]
    return tuple(values[:1] * channels if len(values) != channels else values)


def side(size: Any) -> int | None:
    """The side of a square in pixels, of a size in any of the ways it is written."""
    if isinstance(size, Mapping) or hasattr(size, "items"):
        size = dict(size)
        found = size.get("height") or size.get("shortest_edge")
        return None if found is None else int(found)
    if isinstance(size, list | tuple):
        return int(size[0]) if len(set(size)) == 1 else None
    return None if size is None else int(size)
