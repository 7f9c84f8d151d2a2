"""Relative positions in two dimensions against bottleneck-transformer-pytorch, a loop, and the faults others have."""

from __future__ import annotations

import itertools

import pytest
import torch
from bottleneck_transformer_pytorch.bottleneck_transformer_pytorch import Attention
from torch import Tensor

from attnviz.attention import MultiHead
from attnviz.attention.positions.relative import check_grid, offset_table
from attnviz.attention.variants.botnet2d import BotNet2d
from attnviz.types import Mask, Tokens, UnsupportedMask
from tests.variants import GRID, HEADS, WIDTH, features, randomised

CELLS = list(itertools.product(range(4), range(6)))
DIM = WIDTH // HEADS


def made(tokens: Tokens = GRID) -> BotNet2d:
    """A module from a fixed seed."""
    return randomised(BotNet2d(WIDTH, HEADS, tokens=tokens))  # type: ignore[return-value]


def position_scores(query: Tensor, module: BotNet2d, cells: list[tuple[int, int]]) -> Tensor:
    """q_i · (E_h[row_j - row_i] + E_w[column_j - column_i]) / root d_h, pair by pair."""
    scores = query.new_zeros(HEADS, len(cells), len(cells))
    for (i, (r, c)), (j, (s, d)) in itertools.product(enumerate(cells), repeat=2):
        vector = module.by_row[s - r + 3] + module.by_column[d - c + 5]
        scores[:, i, j] = (query[:, i] @ vector).detach() / DIM**0.5
    return scores


def test_scores_pair_by_pair() -> None:
    module = made()
    _, (call,) = module(features(24), queries=GRID)
    content = (call.query @ call.key.transpose(-1, -2) / DIM**0.5).detach()
    expected = content + position_scores(call.query, module, CELLS)
    torch.testing.assert_close(call.scores(stage="scaled").detach(), content, atol=1e-12, rtol=0)
    torch.testing.assert_close(call.scores(stage="biased").detach(), expected, atol=1e-12, rtol=0)
    torch.testing.assert_close(call.output, expected.softmax(-1) @ call.value, atol=1e-12, rtol=0)
    apart = sum(bias(call, [0, 1, 2, 3], list(range(24))) for _, bias in call.biases)
    torch.testing.assert_close((call.scores(stage="scaled") + apart).detach(), expected, atol=1e-12, rtol=0)
    assert [name for name, _ in call.biases] == ["distance in rows", "distance in columns"]


@pytest.mark.parametrize("grid", [(4, 6), (6, 4), (5, 5)])
def test_bottleneck_transformer_pytorch(grid: tuple[int, int]) -> None:
    """Position scores are scaled by the root of the head dimension too; others leave that out."""
    tokens = Tokens.patches(*grid)
    module = BotNet2d(WIDTH, HEADS, tokens=tokens, bias=False)
    oracle = Attention(dim=WIDTH, fmap_size=grid, heads=HEADS, dim_head=DIM, rel_pos_emb=True)
    with torch.no_grad():
        rows = [p.weight for p in (module.query, module.key, module.value)]
        oracle.to_qkv.weight.copy_(torch.cat(rows)[..., None, None])
        module.by_row.copy_(oracle.pos_emb.rel_height)
        module.by_column.copy_(oracle.pos_emb.rel_width)
    x = features(2, len(tokens)).float()
    _, (call,) = module(x, queries=tokens)
    expected = oracle(x.transpose(1, 2).unflatten(-1, grid)).flatten(-2).transpose(1, 2)
    torch.testing.assert_close(call.output.transpose(-3, -2).flatten(-2), expected, atol=1e-5, rtol=0)


def test_rows_and_columns_are_not_exchanged() -> None:
    """Height scores in transposed token order, or the two tables swapped, must not come out."""
    module = made()
    _, (call,) = module(features(24), queries=GRID)
    rows, columns = (bias(call, [0], list(range(24)))[0] for _, bias in call.biases)
    by_rows, by_columns = (scores.unflatten(-1, (4, 6)) for scores in (rows, columns))
    assert torch.equal(by_rows, by_rows[..., :1].expand_as(by_rows))  # a whole row of keys lies equally far away
    assert torch.equal(by_columns, by_columns[..., :1, :].expand_as(by_columns))
    turned = [(r, c) for c in range(6) for r in range(4)]  # the transposed order of the same patches
    wrong = position_scores(call.query, module, turned)
    assert (wrong - position_scores(call.query, module, CELLS)).abs().max() > 0.1


def test_a_transposed_picture_through_transposed_tables() -> None:
    module, turned = made(), made(Tokens.patches(6, 4))
    state = module.state_dict()
    state["by_row"], state["by_column"] = state["by_column"], state["by_row"]
    turned.load_state_dict(state)
    x = features(24)
    y, _ = module(x, queries=GRID)
    other = x.unflatten(0, (4, 6)).transpose(0, 1).flatten(0, 1)
    z, _ = turned(other, queries=Tokens.patches(6, 4))
    torch.testing.assert_close(z.unflatten(0, (6, 4)).transpose(0, 1).flatten(0, 1), y, atol=1e-12, rtol=0)


def test_zero_tables_are_multi_head_attention() -> None:
    module, twin, x = made(), MultiHead(WIDTH, HEADS).double(), features(24)
    module.by_row.data.zero_()
    module.by_column.data.zero_()
    twin.load_state_dict({n: p for n, p in module.state_dict().items() if n in twin.state_dict()})
    torch.testing.assert_close(module(x, queries=GRID)[0], twin(x, queries=GRID)[0], atol=1e-12, rtol=0)


def test_position_scores_depend_on_the_offset_alone() -> None:
    """One query everywhere: an absolute scheme would give all patches one row, a relative one moves with them."""
    module = made()
    x = features(1).expand(24, -1)
    _, (call,) = module(x, queries=GRID)
    scores = call.scores(stage="biased").detach()[0]
    by_offset: dict[tuple[int, int], float] = {}
    for (i, (r, c)), (j, (s, d)) in itertools.product(enumerate(CELLS), repeat=2):
        first = by_offset.setdefault((s - r, d - c), float(scores[i, j]))
        assert float(scores[i, j]) == pytest.approx(first, abs=1e-12)
    assert (scores[0] - scores[9]).abs().max() > 0.01


@pytest.mark.parametrize("heads", [1, 3])
def test_tables_are_shared_by_heads(heads: int) -> None:
    module = BotNet2d(24, heads, tokens=GRID)
    assert module.by_row.shape == (7, 24 // heads)
    assert module.by_column.shape == (11, 24 // heads)


def test_smaller_grids_read_the_same_tables() -> None:
    module = made()
    _, (whole,) = module(features(24), queries=GRID)
    part = [CELLS.index((r, c)) for r in range(2) for c in range(3)]
    x = features(24)[part]
    _, (call,) = module(x, queries=Tokens.patches(2, 3))
    torch.testing.assert_close(call.scores(), whole.scores()[:, part][..., part], atol=1e-12, rtol=0)
    with pytest.raises(UnsupportedMask, match="4 x 6 patches; 4 x 7"):
        module(features(28), queries=Tokens.patches(4, 7))
    with pytest.raises(ValueError, match="built for a grid"):
        BotNet2d(WIDTH, HEADS)


def test_groups_fold_with_the_position_terms() -> None:
    """Equal groups go through the grouped kernel, position terms and all."""
    ids = torch.tensor([r // 2 for r, _ in CELLS])
    _, (call,) = made()(features(2, 24), queries=GRID, mask=Mask(groups=(ids, ids)))
    torch.testing.assert_close(call.token_map() @ call.value, call.output, atol=1e-12, rtol=0)


def test_cost_in_numbers() -> None:
    """Width 256, 8 heads, 32 x 32 patches, no biases: tables of 63 x 32 for rows and for columns."""
    cost = BotNet2d(256, 8, tokens=Tokens.patches(32, 32), bias=False).cost(1024, 1024)
    assert cost.parameters == 262_144 + 126 * 32
    assert cost.multiply_adds == 805_306_368 + 1024 * 64 * 256


def test_it_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    made()(features(24), queries=GRID)
    assert capsys.readouterr().out == ""


def test_tables_serve_the_grid_they_were_made_for_and_smaller_ones() -> None:
    """Two grids of which one is missing cannot be compared; of two sides, neither may be longer."""
    built_for = Tokens.patches(4, 6)
    for tokens in (built_for, Tokens.patches(1, 6), Tokens.patches(4, 1)):
        check_grid("here", built_for, tokens)
    nowhere = Tokens(("a", "b"))
    for there, here in ((None, built_for), (nowhere, built_for), (built_for, nowhere)):
        with pytest.raises(UnsupportedMask, match="built for a grid"):
            check_grid("here", there, here)
    for longer in (Tokens.patches(5, 1), Tokens.patches(1, 7)):
        with pytest.raises(UnsupportedMask, match="of 4 x 6 patches"):
            check_grid("here", built_for, longer)


def test_tables_start_small_with_one_line_for_each_offset() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        table = offset_table(500, 4, 2)
        module = BotNet2d(WIDTH, HEADS, tokens=GRID)
    assert table.shape == (999, 4, 2)
    assert table.std().item() == pytest.approx(0.02, rel=0.05)
    assert (module.by_row.shape, module.by_column.shape) == ((7, DIM), (11, DIM))
