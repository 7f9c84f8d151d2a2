"""An animation of stages: one frame each, of pictures and of words."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from attnviz.plots import theme
from attnviz.plots.stages import HEIGHT, SECONDS, WIDTH, Frame, Input, animate, colours, draw_frame

WORDS = Input(["one", "two", "\u2026three"], 1)
PICTURE = Input(["CLS", "a", "b", "c", "d"], 2, Image.new("RGB", (20, 20), "red"), (2, 2), 1)


def frame(count: int, *, map: bool = True) -> Frame:
    strips = [(str(one), np.linspace(-1, 1, 8), 1.0, True) for one in range(30)]
    over = np.array([-np.inf, *np.arange(1.0, count)]) if map else None
    return Frame("Layer 1", "Scores", "What is shown. " * 9, strips, over, answers=[("cat", 0.5)])


@pytest.mark.parametrize("about", [WORDS, PICTURE])
def test_every_stage_is_a_frame(about: Input) -> None:
    frames = [frame(len(about.names), map=False), frame(len(about.names))]
    with Image.open(io.BytesIO(animate(about, frames))) as opened:
        assert (opened.format, opened.size, getattr(opened, "n_frames", 1)) == ("WEBP", (WIDTH, HEIGHT), 2)
        opened.seek(1)
        opened.load()
        assert opened.info["duration"] == round(1000 * SECONDS)
    plain, mapped = (np.asarray(draw_frame(about, one)) for one in frames)
    assert (plain != mapped).any()


def test_without_a_stage_there_is_nothing_to_animate() -> None:
    with pytest.raises(ValueError, match="at least one"):
        animate(WORDS, [])


def test_colours_are_those_of_the_theme() -> None:
    found = colours(np.array([-2.0, 0.0, 2.0, -np.inf]), 2.0, True, False)
    scale = theme.table(theme.DIVERGING[0])
    np.testing.assert_array_equal(found[[0, 2, 3]], [scale[0], scale[255], [128, 128, 128]])
    shares = colours(np.array([0.0, 0.25, 1.0]), 1.0, False, False)
    np.testing.assert_array_equal(shares, theme.table("viridis")[[0, 128, 255]])
