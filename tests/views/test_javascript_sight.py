"""What is asked about stays in the window of a view: which words are kept, and where they stand, run by node."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tests.node import ask

LINE, TOP = 24, 24  # of lines.js


@pytest.mark.parametrize("seed", range(4))
def test_the_strongest_few_are_those_of_sorting(seed: int) -> None:
    values = np.random.default_rng(seed).random(40).round(2)
    values[::3] = 0
    wanted = sorted(sorted(np.flatnonzero(values), key=lambda i: (-values[i], i))[:5])
    assert ask("strongestFew($values)", values=values.tolist()) == [int(i) for i in wanted]
    assert ask("strongestFew([0, NaN, -1, 0])") == []


@pytest.mark.parametrize("seed", range(12))
def test_words_keep_their_order_and_stay_between_the_edges(seed: int) -> None:
    """Those inside stand where they are, unless others that have left the window need the place."""
    generator = np.random.default_rng(seed)
    lines = np.sort(generator.choice(60, 6, replace=False)) * LINE
    low = int(generator.integers(0, 1000))
    high = low + 12 * LINE
    places = ask("keptInside($boxes, $low, $high)", boxes=[[int(y), LINE] for y in lines], low=low, high=high)
    assert min(places) >= low
    assert max(places) + LINE <= high
    assert all(b - a >= LINE for a, b in itertools.pairwise(places))
    free = (lines >= low + 5 * LINE) & (lines + LINE <= high - 5 * LINE)
    assert np.array_equal(np.array(places)[free], lines[free])
    above, below = lines < low, lines + LINE > high
    if above.any():
        assert places[0] == low
    if below.any():
        assert places[-1] + LINE == high


def test_where_there_is_too_little_room_words_overlap_but_none_leaves() -> None:
    places = ask("keptInside([[0, 30], [500, 30], [900, 30]], 100, 160)")
    assert places == [100, 120, 140]
    assert ask("keptInside([[0, 24], [24, 24]], 0, 200)") == [0, 24]  # nothing moves where all is seen


def test_of_a_query_its_keys_are_kept_and_of_a_key_its_queries() -> None:
    table = [[0.1, 0.2], [0, 0], [0.05, 0.4], [0.01, 0], [0.2, 0.2], [0.3, 0], [0.02, 0.01], [0, 0.06]]
    words = ask("keptWords({queries: [7, 3], key: null}, $table)", table=table)
    assert words == {"query": [3, 7], "key": [0, 2, 4, 5, 7]}
    assert ask("keptWords({queries: [], key: 6}, $table)", table=table) == {"query": [0, 2, 4, 5, 7], "key": [6]}
    heights = ask(
        "['query', 'key'].map((side) => [...pinnedHeights($words, {top: 4000, bottom: 4460})[side]])", words=words
    )
    assert heights[0] == [[3, 4000 + TOP + 12], [7, 4000 + TOP + 36]]
    assert [height for _, height in heights[1]] == [4000 + TOP + 12 + LINE * i for i in range(5)]
