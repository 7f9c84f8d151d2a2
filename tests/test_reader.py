"""The network that reads one text, against torch's own encoder; what it leaves out and what it hides."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from attnviz.attention import VARIANTS
from attnviz.models.layers import LayerConfig
from attnviz.models.pieces import numbered
from attnviz.models.text import Reader, ReaderConfig

SHAPE = ReaderConfig(vocabulary=50, width=24, layers=2, heads=3, positions="learned1d", longest=12, prefix=1,
                     outputs={"sentiment": 2, "tag": 5})  # fmt: skip
IDS = torch.tensor([[3, 7, 9, 30, 12, 4], [3, 8, 8, 41, 4, 0]])
KEEP = torch.tensor([[True] * 6, [True] * 5 + [False]])


def network(**changes) -> Reader:
    """A small network with random weights, in float64."""
    torch.manual_seed(0)
    made = Reader(ReaderConfig(**{**vars(SHAPE), **changes})).double().eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return made


def twin(reader: Reader) -> nn.TransformerEncoder:
    """torch's pre-norm encoder with the same weights."""
    layer = nn.TransformerEncoderLayer(24, 3, 96, 0.0, "gelu", layer_norm_eps=1e-6, batch_first=True, norm_first=True)
    other = nn.TransformerEncoder(layer, 2, nn.LayerNorm(24, eps=1e-6), enable_nested_tensor=False).double().eval()
    theirs: Any
    ours: Any
    for theirs, ours in zip(other.layers, reader.blocks, strict=True):
        parts = [ours.attention.query, ours.attention.key, ours.attention.value]
        theirs.self_attn.in_proj_weight.data = torch.cat([p.weight for p in parts])
        theirs.self_attn.in_proj_bias.data = torch.cat([p.bias for p in parts])
        theirs.self_attn.out_proj.load_state_dict(ours.attention.out.state_dict())
        theirs.linear1.load_state_dict(ours.mlp[0].state_dict())
        theirs.linear2.load_state_dict(ours.mlp[2].state_dict())
        theirs.norm1.load_state_dict(ours.attention_norm.state_dict())
        theirs.norm2.load_state_dict(ours.mlp_norm.state_dict())
    if other.norm is not None:
        other.norm.load_state_dict(reader.norm.state_dict())
    return other


def test_it_is_torchs_encoder():
    ours = network()
    trace = ours(IDS, keep=KEEP)
    theirs = twin(ours)(trace.residuals["main"][0], src_key_padding_mask=~KEEP)
    assert torch.allclose(ours.norm(trace.residuals["main"][-1])[KEEP], theirs[KEEP], atol=1e-10)
    assert torch.allclose(trace.logits["sentiment"][:, 0], ours.outputs["sentiment"](theirs[:, 0]), atol=1e-10)
    assert torch.allclose(trace.logits["tag"][KEEP], ours.outputs["tag"](theirs)[KEEP], atol=1e-10)


def test_padding_changes_nothing():
    ours = network()
    alone = ours(IDS[1, :5])
    padded = ours(IDS, keep=KEEP)
    for name in ("word", "tag", "sentiment"):
        assert torch.allclose(padded.logits[name][1][: alone.logits[name].shape[0]], alone.logits[name], atol=1e-10)


def test_a_decoder_sees_nothing_of_the_future():
    ours = network(causal=True, prefix=0, outputs={}, positions="sine")
    changed = IDS.clone()
    changed[:, 4:] = 17
    before, after = ours(IDS).logits["word"], ours(changed).logits["word"]
    assert torch.equal(before[:, :4], after[:, :4])
    assert not torch.allclose(before[:, 4:], after[:, 4:])


LLAMA: dict[str, Any] = {"positions": "rotary", "variant": "gqa", "options": {"groups": 1}, "norm": "rms",
                         "gated": True}  # fmt: skip
WRITERS: dict[str, dict[str, Any]] = {"llama": LLAMA} | {
    name: {"positions": "sine", "variant": name, "options": {"radius": 1} if name == "window" else {}}
    for name, kind in VARIANTS.items() if "causal" in kind.serves and not kind.needs
}  # fmt: skip


@pytest.mark.parametrize("name", WRITERS)
def test_cached_decoding_is_the_forward_pass(name: str):
    """Whatever a layer keeps of its past: all keys, those of a window, or sums; and places go on to the last one."""
    ours = network(causal=True, prefix=0, outputs={}, **WRITERS[name])
    whole = ours(IDS).logits["word"]
    past: list = []
    for begin, stop in ((0, 3), (3, 4), (4, 6)):
        scores, past = ours.decode(IDS[:, begin:stop], past)
        assert torch.allclose(scores, whole[:, stop - 1], atol=1e-10)
    chosen = [tuple(tensor[[1, 0, 1]] for tensor in kept) for kept in past]  # as a search among beams does
    scores, chosen = ours.decode(IDS[[1, 0, 1], :6], chosen)
    again = ours(torch.cat([IDS, IDS], -1)).logits["word"]
    assert torch.allclose(scores, again[[1, 0, 1], -1], atol=1e-10)
    with pytest.raises(ValueError, match="13 tokens; this network reads at most 12"):
        ours.decode(IDS[[1, 0, 1], :1], chosen)


def test_a_removed_token_is_seen_by_nobody():
    ours = network(pooling="mean")
    keep = torch.ones(6, dtype=torch.bool)
    keep[3] = False
    one, other = IDS[0].clone(), IDS[0].clone()
    other[3] = 44
    assert torch.allclose(ours(one, keep=keep).logits["sentiment"], ours(other, keep=keep).logits["sentiment"])
    assert ours(one, keep=keep).readout["main"][3] == 0
    assert float(ours(one, keep=keep).readout["main"].sum()) == pytest.approx(1)


def test_positions_and_heads_can_be_taken_away():
    ours = network()
    plain, without = ours(IDS[0]), ours(IDS[0], positions="none")
    assert torch.allclose(without.position["main"][1:], torch.zeros(5, 24, dtype=torch.float64))
    assert torch.equal(without.position["main"][0], plain.position["main"][0])  # CLS keeps its own
    shuffled = ours(IDS[0], positions="shuffled").position["main"][1:]
    assert sorted(map(tuple, shuffled.tolist())) == sorted(map(tuple, plain.position["main"][1:].tolist()))
    assert not torch.allclose(ours(IDS[0], heads_off=[(1, 2)]).logits["word"], plain.logits["word"])
    with pytest.raises(ValueError, match="positions is"):
        ours(IDS[0], positions="upside down")


def test_too_long_a_text_is_refused_in_words():
    with pytest.raises(ValueError, match="13 tokens; this network reads at most 12"):
        network()(torch.ones(13, dtype=torch.long))


def test_gradients_reach_embeddings():
    ours = network()
    content = ours.pieces.content(IDS[0]).detach().requires_grad_()
    ours(IDS[0], embeddings=content).logits["sentiment"][0, 1].backward()
    assert content.grad is not None
    assert content.grad.abs().sum() > 0


@pytest.mark.parametrize("name", [name for name, kind in VARIANTS.items() if not kind.needs])
def test_any_variant_fits(name: str):
    ours = Reader(ReaderConfig(vocabulary=50, width=24, layers=1, heads=3, variant=name, longest=12))
    trace = ours(IDS[0])
    assert trace.logits["word"].shape == (6, 50)
    assert torch.isfinite(trace.logits["word"]).all()


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="variant is 'hard'"):
        LayerConfig(variant="hard")
    with pytest.raises(ValueError, match="positions is 'gps'"):
        LayerConfig(positions="gps")
    assert numbered(3, 1) is numbered(3, 1)
