"""Position tables: numbers by hand, against Hugging Face, and what every scheme must do."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from attnviz.attention import POSITIONS
from attnviz.attention.positions.tables import no_positions, resize_table, sine_cosine, sine_cosine_2d
from attnviz.types import Tokens

GRID = Tokens.patches(3, 5, ("CLS", "REG 1"))


def sequence(count: int) -> Tokens:
    """Tokens in a row, without prefix or grid."""
    return Tokens(tuple(str(i) for i in range(count)))


@pytest.mark.parametrize("name", POSITIONS)
def test_every_scheme_fills_one_row_a_token(name: str) -> None:
    with torch.random.fork_rng():
        table = POSITIONS[name].table(GRID, 16)
    assert table.shape == (len(GRID), 16)
    assert table.dtype == torch.float64
    assert POSITIONS[name].title
    if not POSITIONS[name].learned:
        assert (table[: GRID.prefix] == 0).all(), "prefix tokens have no place on the grid"


@pytest.mark.parametrize(
    "name", [name for name, scheme in POSITIONS.items() if scheme.table is not no_positions and not scheme.learned]
)
def test_every_place_is_told_apart(name: str) -> None:
    table = POSITIONS[name].table(GRID, 16)[GRID.prefix :]
    distance = torch.cdist(table, table) + torch.eye(len(table)) * 9
    assert distance.min() > 0.1


def test_sine_cosine_by_hand() -> None:
    table = sine_cosine(sequence(3), 4)
    expected = [[0.0, 1.0, 0.0, 1.0], [0.8415, 0.5403, 0.0100, 1.0000], [0.9093, -0.4161, 0.0200, 0.9998]]
    torch.testing.assert_close(table, torch.tensor(expected, dtype=torch.float64), atol=5e-5, rtol=0)


def test_sine_cosine_gram_depends_on_distance_only() -> None:
    """<PE_p, PE_q> = sum of cos((p - q) w): equal along every diagonal, d / 2 on the main one."""
    table = sine_cosine(sequence(40), 16)
    gram = table @ table.T
    for offset in range(40):
        diagonal = gram.diagonal(offset)
        assert (diagonal - diagonal[0]).abs().max() < 1e-12
    assert gram[0, 0].item() == pytest.approx(8)
    expected = sum(math.cos(7 * 10_000 ** (-i / 8)) for i in range(8))
    assert gram[0, 7].item() == pytest.approx(expected)


def test_sine_cosine_rows_stay_apart() -> None:
    table = sine_cosine(sequence(512), 64)
    distance = torch.pdist(table).min().item()
    assert distance == pytest.approx(1.4718, abs=1e-4)


def test_sine_cosine_2d_is_hugging_faces() -> None:
    from transformers.models.rt_detr_v2.modeling_rt_detr_v2 import build_2d_sinusoidal_position_embedding

    expected = build_2d_sinusoidal_position_embedding(3, 5, 16, dtype=torch.float64)
    torch.testing.assert_close(sine_cosine_2d(Tokens.patches(3, 5), 16), expected.reshape(15, 16))


def test_sine_cosine_2d_holds_row_and_column_apart() -> None:
    table = sine_cosine_2d(GRID, 16)[2:].unflatten(0, (3, 5))
    assert (table[:, :, :8] == table[:, :1, :8]).all(), "the first half knows the row only"
    assert (table[:, :, 8:] == table[:1, :, 8:]).all(), "the second half knows the column only"


def test_learned_starts_small() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        table = POSITIONS["learned"].table(Tokens.patches(16, 16), 64)
    assert table.std().item() == pytest.approx(0.02, rel=0.02)


@pytest.mark.parametrize(("name", "dim"), [("sine", 5), ("sine", 0), ("sine2d", 6)])
def test_dimensions_that_do_not_fit(name: str, dim: int) -> None:
    with pytest.raises(ValueError, match=f"got {dim}"):
        POSITIONS[name].table(GRID, dim)


def test_rows_and_columns_need_a_grid() -> None:
    with pytest.raises(ValueError, match="need a patch grid"):
        sine_cosine_2d(sequence(4), 8)


def test_resizing_to_the_same_grid_is_the_identity() -> None:
    table = torch.randn(17, 8, generator=torch.Generator().manual_seed(0))
    assert resize_table(table, 1, (4, 4), (4, 4)) is table


@pytest.mark.parametrize("grid", [(8, 8), (3, 7), (2, 2)])
def test_resizing_keeps_prefix_and_neighbourhood(grid: tuple[int, int]) -> None:
    tokens = Tokens.patches(4, 4, ("CLS",))
    table = sine_cosine_2d(tokens, 16).float()
    table[0] = 7
    resized = resize_table(table, 1, (4, 4), grid)
    assert resized.shape == (1 + grid[0] * grid[1], 16)
    assert (resized[0] == 7).all()
    places = resized[1:].unflatten(0, grid)
    likeness = F.cosine_similarity(places[:1, :1], places, dim=-1)
    assert likeness[0, 0] == likeness.max()
    assert likeness[-1, -1] < likeness[0, 1]
    # A ramp along one axis stays a ramp along it, and constant along the other.
    ramp = torch.arange(4.0)[:, None, None].expand(4, 4, 1).flatten(0, 1)
    rows = resize_table(ramp, 0, (4, 4), grid).unflatten(0, grid)[..., 0]
    assert (rows.diff(dim=0) > 0).all()
    assert rows.diff(dim=1).abs().max() < 1e-5


@pytest.mark.parametrize(("old", "new"), [((8, 8), (3, 3)), ((4, 6), (7, 3)), ((3, 5), (9, 9)), ((9, 4), (2, 4))])
def test_resizing_is_that_of_pillow(old: tuple[int, int], new: tuple[int, int]) -> None:
    """A bicubic filter as wide as the step: where a table shrinks it is smoothed first."""
    table = torch.randn(1 + old[0] * old[1], 2, generator=torch.Generator().manual_seed(0))
    found = resize_table(table, 1, old, new)
    for feature in range(2):
        grid = Image.fromarray(table[1:, feature].unflatten(0, old).numpy())
        expected = np.asarray(grid.resize(new[::-1], Image.Resampling.BICUBIC))
        np.testing.assert_allclose(found[1:, feature].unflatten(0, new).numpy(), expected, atol=1e-5)


def test_a_checkerboard_shrinks_to_nothing() -> None:
    board = torch.tensor([[(-1.0) ** (i + j)] for i in range(8) for j in range(8)])
    assert resize_table(board, 0, (8, 8), (3, 3)).abs().max() < 0.2


@pytest.mark.parametrize("name", [name for name, scheme in POSITIONS.items() if not scheme.learned])
def test_waves_are_of_base_ten_thousand_where_nobody_chose(name: str) -> None:
    table = POSITIONS[name].table
    torch.testing.assert_close(table(GRID, 16), table(GRID, 16, 1e4))
    if table is not no_positions:
        assert not torch.allclose(table(GRID, 16), table(GRID, 16, 9e3))


def test_what_a_scheme_is() -> None:
    """Learned tables start from one; those of rows and columns need a grid; what tells distances has no table."""
    kinds = {n: (s.learned, s.grid, s.relative is not None) for n, s in POSITIONS.items()}
    assert {n for n, (learned, _, _) in kinds.items() if learned} == {"learned", "learned1d", "learned2d"}
    assert {n for n, (_, grid, _) in kinds.items() if grid} == {"learned2d", "sine2d"}
    assert {n for n, (_, _, relative) in kinds.items() if relative} == {"rotary", "alibi", "shaw", "t5"}
