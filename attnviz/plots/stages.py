"""An animated picture of a computation: one frame a stage, with the input at the left and strips at the right."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont

from attnviz.plots import theme

WIDTH, HEIGHT, MARGIN, INPUT = 960, 540, 24, 320  # pixels
STRIP, GAP, NAME = 16, 6, 220
SECONDS = 1.8  # a frame is shown
PLAIN = str.maketrans({"\u2192": "->", "\u2212": "-", "\u00a0": " ", "\u2026": "..", "\u00d7": "x", "\u00b7": "."})


@dataclass(frozen=True, eq=False)
class Frame:
    """What one frame shows."""

    heading: str
    title: str
    text: str
    strips: Sequence[tuple[str, Float[np.ndarray, " _"], float, bool]]  # label, numbers, last colour, signed
    map: Float[np.ndarray, " token"] | None = None  # over the input; -inf and nan are masked
    rooted: bool = False  # whether its scale is the square root, from zero
    answers: Sequence[tuple[str, float]] = ()  # labels with their probabilities


@dataclass(frozen=True, eq=False)
class Input:
    """What the frames are about: a picture with a grid after `prefix` tokens, or words."""

    names: Sequence[str]
    token: int
    picture: Image.Image | None = None
    grid: tuple[int, int] = (1, 1)
    prefix: int = 0


def animate(about: Input, frames: Sequence[Frame], *, dark: bool = False) -> bytes:
    """The frames as an animated WebP. Raises ValueError without a frame."""
    if not frames:
        raise ValueError("an animation needs at least one frame")
    drawn = [draw_frame(about, frame, dark) for frame in frames]
    file, duration = io.BytesIO(), round(1000 * SECONDS)
    drawn[0].save(file, "WEBP", save_all=True, append_images=drawn[1:], duration=duration, loop=0, quality=85, method=2)
    return file.getvalue()


def draw_frame(about: Input, frame: Frame, dark: bool = False) -> Image.Image:
    """One frame: 960 x 540 pixels."""
    image = Image.new("RGB", (WIDTH, HEIGHT), theme.colour("ground", dark))
    pen, ink, quiet = ImageDraw.Draw(image), theme.colour("text", dark), theme.colour("muted", dark)
    write(pen, (MARGIN, 14), frame.heading, 14, quiet)
    write(pen, (MARGIN, 34), frame.title, 24, ink)
    top = 84
    if about.picture is None:
        draw_words(image, about, frame, top, ink)
    else:
        draw_picture(image, about.picture, about, frame, top)
    left, down = MARGIN + INPUT + 32, top
    for line in textwrap.wrap(frame.text, 72)[:5]:
        write(pen, (left, down), line, 15, ink)
        down += 21
    draw_strips(image, frame, (left, down + 8), dark)
    write(pen, (MARGIN, HEIGHT - 30), f"Followed: {about.names[about.token]}", 14, quiet)
    return image


def write(pen: ImageDraw.ImageDraw, place: tuple[float, float], text: str, size: int, colour: str) -> None:
    """A line of text, in signs that the font of Pillow has."""
    pen.text(place, text.translate(PLAIN), fill=colour, font=ImageFont.load_default(size))


def shares(frame: Frame) -> Float[np.ndarray, " token"] | None:
    """The map of a frame from 0 to 1; nan where masked."""
    if frame.map is None:
        return None
    values = np.where(np.isfinite(frame.map), frame.map, np.nan)
    least = 0.0 if frame.rooted else float(np.nanmin(values))
    scaled = ((values - least) / (float(np.nanmax(values)) - least or 1)).clip(0, 1)
    return np.sqrt(scaled) if frame.rooted else scaled


def draw_picture(image: Image.Image, picture: Image.Image, about: Input, frame: Frame, top: int) -> None:
    """The picture with the map over it; the token that is followed is outlined."""
    scale = INPUT / max(picture.size)
    size = round(picture.width * scale), round(picture.height * scale)
    shown, (rows, columns) = picture.convert("RGB").resize(size), about.grid
    if (share := shares(frame)) is not None:
        cells = theme.table("viridis")[np.nan_to_num(255 * share[about.prefix :]).astype(int)]
        cells[np.isnan(share[about.prefix :])] = 128
        over = Image.fromarray(cells.reshape(rows, columns, 3)).resize(size, Image.Resampling.NEAREST)
        shown = Image.blend(shown, over, 0.7)
    image.paste(shown, (MARGIN, top))
    if about.token >= about.prefix:
        row, column = divmod(about.token - about.prefix, columns)
        wide, tall = size[0] / columns, size[1] / rows
        box = [MARGIN + column * wide, top + row * tall, MARGIN + (column + 1) * wide, top + (row + 1) * tall]
        pen = ImageDraw.Draw(image)
        pen.rectangle(box, outline="#000000", width=4)
        pen.rectangle([box[0] + 1, box[1] + 1, box[2] - 1, box[3] - 1], outline="#ffffff", width=2)


def draw_words(image: Image.Image, about: Input, frame: Frame, top: int, ink: str) -> None:
    """The words, coloured by the map; the one that is followed is outlined. Words below the edge are left out."""
    pen, font, share = ImageDraw.Draw(image), ImageFont.load_default(15), shares(frame)
    table, x, y = theme.table("viridis"), float(MARGIN), float(top)
    for token, name in enumerate(about.names):
        word = name.translate(PLAIN)
        wide = pen.textlength(word, font=font) + 12
        if x + wide > MARGIN + INPUT and x > MARGIN:
            x, y = float(MARGIN), y + 32
        if y > HEIGHT - 70:
            break
        box, colour = [x, y, x + wide, y + 26], ink
        if share is not None and not np.isnan(share[token]):
            pen.rectangle(box, fill=tuple(int(c) for c in table[int(255 * share[token])]))
            colour = "#000000" if share[token] > 0.42 else "#ffffff"
        pen.text((x + 6, y + 3), word, fill=colour, font=font)
        if token == about.token:
            pen.rectangle(box, outline="#000000", width=3)
            pen.rectangle([x + 1, y + 1, x + wide - 1, y + 25], outline="#ffffff", width=1)
        x += wide + 5


def draw_strips(image: Image.Image, frame: Frame, place: tuple[int, int], dark: bool) -> None:
    """Strips and answers below each other, as many as there is room for."""
    pen, ink = ImageDraw.Draw(image), theme.colour("text", dark)
    left, down = place
    wide = WIDTH - MARGIN - left - NAME
    for label, values, limit, signed in frame.strips:
        if down + STRIP > HEIGHT - 40:
            return
        write(pen, (left, down - 1), label[:34], 13, ink)
        strip = Image.fromarray(colours(values, limit, signed, dark)[None]).resize(
            (wide, STRIP), Image.Resampling.NEAREST
        )
        image.paste(strip, (left + NAME, down))
        down += STRIP + GAP
    for label, share in frame.answers:
        write(pen, (left, down - 1), f"{label[:26]} {100 * share:.1f} %", 13, ink)
        pen.rectangle([left + NAME, down, left + NAME + wide * share, down + STRIP], fill=theme.colour("query", dark))
        down += STRIP + GAP


def colours(values: Float[np.ndarray, " number"], limit: float, signed: bool, dark: bool) -> np.ndarray:
    """A colour for each number, uint8 [number 3]; grey where it is masked."""
    finite, most = np.isfinite(values), limit or 1
    known = np.where(finite, values, 0) / most
    share = (0.5 + known / 2).clip(0, 1) if signed else np.sqrt(known.clip(0, 1))
    table = theme.table(theme.DIVERGING[dark] if signed else theme.SEQUENTIAL[0])
    found = table[np.rint(255 * share).astype(int)].copy()
    found[~finite] = 128
    return found
