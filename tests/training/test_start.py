"""Where training starts: at random, at a mimetic start, or at a network that is shipped."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import pytest
import torch

from attnviz.models import ViT, ViTConfig, load
from attnviz.training import __main__ as command
from attnviz.training.images.data import DATA
from attnviz.training.images.loop import Run
from attnviz.training.images.recipes import RECIPES
from attnviz.training.images.start import copy_parameters, init_mimetic

SHAPE = ViTConfig(size=32, patch=4, width=64, layers=2, heads=2, classes=5, positions="learned2d")


def network(config: ViTConfig = SHAPE) -> ViT:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ViT(config)


def own_share(network: ViT) -> float:
    """How many patches give more to themselves than to any other, in the first layer."""
    pixels = torch.randn(3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        weights = network(pixels).calls[0].weights()[:, 1:, 1:]
    return (weights.argmax(-1) == torch.arange(64)).double().mean().item()


def test_mimetic_tokens_attend_to_similar_tokens():
    plain, started = network(), network()
    with torch.random.fork_rng():
        init_mimetic(started)
    assert own_share(started) > 0.9
    assert own_share(plain) < 0.2


def test_mimetic_value_and_output_subtract_the_identity():
    started = network()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        init_mimetic(started)
    for block in started.blocks:
        both = (block.attention.out.weight @ block.attention.value.weight).double()
        assert both.diagonal().mean().item() == pytest.approx(-0.4, abs=0.03)
        noise = both + 0.4 * torch.eye(64)
        assert noise.std().item() == pytest.approx(0.4 / 8, rel=0.1)
        assert abs(noise.mean().item()) < 0.005


def test_multi_query_attention_has_no_mimetic_initialisation():
    with pytest.raises(ValueError, match="Multi-query attention has no four square matrices"):
        init_mimetic(network(replace(SHAPE, variant="mqa")))


def test_a_run_is_initialised_as_its_recipe_says():
    recipe = replace(RECIPES["vit-digits"], start="mimetic")
    block = Run(recipe, DATA["digits"]("train"), torch.device("cpu")).network.blocks[1]
    assert torch.equal(block.attention.key.weight, block.attention.query.weight)


def test_a_continued_run_reinitialises_what_its_recipe_names():
    recipe = replace(RECIPES["vit-digits"], reinit=("positions",))
    before = {name: torch.full_like(tensor, 0.5) for name, tensor in load("vit-digits").network.state_dict().items()}
    run = Run(recipe, DATA["digits"]("train"), torch.device("cpu"), before)
    changed = [name for name, tensor in run.network.state_dict().items() if not torch.equal(tensor, before[name])]
    assert changed == ["positions"]


def test_copy_parameters_copies_all_but_the_exceptions():
    first, second = network(), network()
    for parameter in first.parameters():
        torch.nn.init.normal_(parameter)
    kept = second.positions.detach().clone()
    copy_parameters(second, first.state_dict(), ("positions",))
    assert torch.equal(second.positions, kept)
    assert torch.equal(second.embed.weight, first.embed.weight)
    with pytest.raises(ValueError, match="has other shapes than this recipe"):
        copy_parameters(network(replace(SHAPE, width=32)), first.state_dict())


def test_the_command_continues_the_shipped_model(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(RECIPES, "more", replace(RECIPES["vit-digits"], steps=2, init_from="vit-digits"))
    monkeypatch.setattr(sys, "argv", ["training", "more", "--out", str(tmp_path / "out"), "--device", "cpu"])
    assert command.main() == 0
    facts = json.loads((tmp_path / "out" / "config.json").read_text())["facts"]
    before = load("vit-digits").facts
    assert facts["recipe"] == "more"
    assert facts["top1"] > 80, "two steps at the low end of a schedule change little"
    assert (facts["previous_run"]["steps"], facts["previous_run"]["top1"]) == (before["steps"], before["top1"])
    assert f"{before['top1']} % top-1 |" in capsys.readouterr().out
