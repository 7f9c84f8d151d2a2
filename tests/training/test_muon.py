"""Muon: orthogonal moves, as torch's own makes them, and in a precision the device is fast in."""

from __future__ import annotations

import pytest
import torch

from attnviz.training import muon
from attnviz.training.muon import Muon, orthogonalise


def matrices(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Single precision, whatever the processor of this machine is fast in."""
    monkeypatch.setattr(muon, "computes_in_bfloat16", lambda device: False)


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 6, 20), (2, 20, 6)])
def test_the_singular_vectors_stay_and_the_values_come_near_one(shape, exact):
    found = orthogonalise(matrices(*shape)).double()
    u, _, v = torch.linalg.svd(matrices(*shape).double(), full_matrices=False)
    values = u.mT @ found @ v.mT
    assert (values.diagonal(dim1=-2, dim2=-1) - 1).abs().max() < 0.45
    off = values - torch.diag_embed(values.diagonal(dim1=-2, dim2=-1))
    assert off.abs().max() < 0.02


def test_each_matrix_is_made_orthogonal_by_itself(exact):
    both = orthogonalise(torch.stack([matrices(5, 7), 100 * matrices(5, 7).flip(0)]))
    torch.testing.assert_close(both[0], orthogonalise(matrices(1, 5, 7))[0])
    torch.testing.assert_close(both[1], orthogonalise(matrices(1, 5, 7).flip(-2))[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 6, 20), (2, 20, 6)])
def test_half_precision_moves_nearly_as_far_nearly_the_same_way(shape, exact, monkeypatch):
    """What a processor or a card with such instructions computes."""
    single = orthogonalise(matrices(*shape))
    monkeypatch.setattr(muon, "computes_in_bfloat16", lambda device: True)
    half = orthogonalise(matrices(*shape))
    assert half.dtype == single.dtype
    assert not torch.equal(half, single)
    assert torch.cosine_similarity(half.flatten(), single.flatten(), dim=0) > 0.995
    assert (half.norm() / single.norm()).item() == pytest.approx(1, abs=0.03)


def test_steps_are_those_of_torch_up_to_its_bfloat16():
    ours, theirs = ([torch.nn.Parameter(matrices(*s)) for s in ((6, 6), (6, 6), (4, 12), (12, 4))] for _ in range(2))
    mine = Muon(ours, lr=0.02, weight_decay=0.1)
    peer = torch.optim.Muon(theirs, lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for step in range(4):
        for index, pair in enumerate(zip(ours, theirs, strict=True)):
            for parameter in pair:
                parameter.grad = matrices(4, 16, 16)[step, index : index + len(parameter), : parameter.shape[1]].clone()
        mine.step()
        peer.step()
    for one, other, start in zip(ours, theirs, ((6, 6), (6, 6), (4, 12), (12, 4)), strict=True):
        way = (other - matrices(*start)).norm()
        assert (one - other).norm() < 0.03 * way
        assert way > 0.01


def test_a_step_is_as_long_however_small_the_gradient(exact):
    """By 0.2 times the root of the larger side, and a momentum of 0.95 unless told otherwise."""
    torch.testing.assert_close(
        orthogonalise(1e-5 * matrices(1, 6, 9)), orthogonalise(matrices(1, 6, 9)), atol=1e-4, rtol=1e-3
    )
    matrix = torch.nn.Parameter(matrices(6, 9))
    optimiser = Muon([matrix], lr=0.1)
    matrix.grad = 1e-5 * matrices(6, 9)
    optimiser.step()
    moved = (matrices(6, 9) - matrix.detach()) / (0.1 * 0.2 * 3)
    torch.testing.assert_close(moved, orthogonalise(matrices(1, 6, 9))[0], atol=1e-3, rtol=1e-3)
    assert optimiser.param_groups[0]["momentum"] == 0.95
    assert optimiser.param_groups[0]["weight_decay"] == 0


def test_a_matrix_without_a_gradient_stays():
    still, moving = (torch.nn.Parameter(matrices(3, 3)) for _ in range(2))
    moving.grad = matrices(3, 3)
    Muon([still, moving], lr=0.1, weight_decay=0.1).step()
    assert torch.equal(still, matrices(3, 3))
    assert not torch.equal(moving, matrices(3, 3))


def test_a_parameter_that_is_not_a_matrix_is_refused():
    with pytest.raises(ValueError, match=r"not a parameter of shape \(3,\)"):
        Muon([torch.nn.Parameter(torch.zeros(3))], lr=0.1)


def test_without_such_instructions_nothing_is_computed_in_bfloat16(monkeypatch):
    monkeypatch.setattr(muon, "computes_in_bfloat16", lambda device: False)
    exact = orthogonalise(matrices(1, 6, 6).double())
    torch.testing.assert_close(orthogonalise(matrices(1, 6, 6)).double(), exact, atol=1e-5, rtol=1e-4)
    monkeypatch.setattr(muon, "computes_in_bfloat16", lambda device: True)
    assert (orthogonalise(matrices(1, 6, 6)) - exact).abs().max() > 1e-4
