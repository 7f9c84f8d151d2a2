"""The network that reads one text, against torch's own encoder; what it leaves out and what it hides."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from attnviz.attention import VARIANTS
from attnviz.edits import Edit, head_flags
from attnviz.models.layers import Block, LayerConfig, initialise, norm_of
from attnviz.models.text import Reader, ReaderConfig, Translator, TranslatorConfig
from attnviz.models.token_embedding import TokenEmbedding, numbered

SHAPE = ReaderConfig(
    vocabulary=50,
    width=24,
    layers=2,
    heads=3,
    positions="learned1d",
    context_length=12,
    prefix=1,
    outputs={"sentiment": 2, "tag": 5},
)
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
    trace = ours(IDS, edit=Edit(keep_tokens=KEEP))
    theirs = twin(ours)(trace.residuals["main"][0], src_key_padding_mask=~KEEP)
    assert torch.allclose(ours.norm(trace.residuals["main"][-1])[KEEP], theirs[KEEP], atol=1e-10)
    assert torch.allclose(trace.logits["sentiment"][:, 0], ours.outputs["sentiment"](theirs[:, 0]), atol=1e-10)
    assert torch.allclose(trace.logits["tag"][KEEP], ours.outputs["tag"](theirs)[KEEP], atol=1e-10)


def test_padding_changes_nothing():
    ours = network()
    alone = ours(IDS[1, :5])
    padded = ours(IDS, edit=Edit(keep_tokens=KEEP))
    for name in ("word", "tag", "sentiment"):
        assert torch.allclose(padded.logits[name][1][: alone.logits[name].shape[0]], alone.logits[name], atol=1e-10)


def test_a_decoder_sees_nothing_of_the_future():
    ours = network(causal=True, prefix=0, outputs={}, positions="sine")
    changed = IDS.clone()
    changed[:, 4:] = 17
    before, after = ours(IDS).logits["word"], ours(changed).logits["word"]
    assert torch.equal(before[:, :4], after[:, :4])
    assert not torch.allclose(before[:, 4:], after[:, 4:])


LLAMA: dict[str, Any] = {
    "positions": "rotary",
    "variant": "gqa",
    "options": {"groups": 1},
    "norm": "rms",
    "gated": True,
}
WRITERS: dict[str, dict[str, Any]] = {"llama": LLAMA} | {
    name: {"positions": "sine", "variant": name, "options": {"radius": 1} if name in ("window", "sinkwindow") else {}}
    for name, kind in VARIANTS.items()
    if "causal" in kind.supported_masks and not kind.requirements
}


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
    assert torch.allclose(
        ours(one, edit=Edit(keep_tokens=keep)).logits["sentiment"],
        ours(other, edit=Edit(keep_tokens=keep)).logits["sentiment"],
    )
    assert ours(one, edit=Edit(keep_tokens=keep)).pooling["main"][3] == 0
    assert float(ours(one, edit=Edit(keep_tokens=keep)).pooling["main"].sum()) == pytest.approx(1)


def test_positions_and_heads_can_be_taken_away():
    ours = network()
    plain, without = ours(IDS[0]), ours(IDS[0], edit=Edit(positions="none"))
    assert torch.allclose(without.position_embeddings["main"][1:], torch.zeros(5, 24, dtype=torch.float64))
    assert torch.equal(
        without.position_embeddings["main"][0], plain.position_embeddings["main"][0]
    )  # CLS keeps its own
    shuffled = ours(IDS[0], edit=Edit(positions="shuffled")).position_embeddings["main"][1:]
    assert sorted(map(tuple, shuffled.tolist())) == sorted(map(tuple, plain.position_embeddings["main"][1:].tolist()))
    assert not torch.allclose(
        ours(IDS[0], edit=Edit(ablated_heads=head_flags(ours.config.layers, ours.config.heads, [(1, 2)]))).logits[
            "word"
        ],
        plain.logits["word"],
    )
    with pytest.raises(ValueError, match="positions is"):
        ours(IDS[0], edit=Edit(positions="upside down"))  # type: ignore[arg-type]


def test_too_long_a_text_is_refused_in_words():
    with pytest.raises(ValueError, match="13 tokens; this network reads at most 12"):
        network()(torch.ones(13, dtype=torch.long))


def test_gradients_reach_embeddings():
    ours = network()
    content = ours.pieces.token_embeddings(IDS[0]).detach().requires_grad_()
    ours(IDS[0], edit=Edit(embeddings=content)).logits["sentiment"][0, 1].backward()
    assert content.grad is not None
    assert content.grad.abs().sum() > 0


def test_relative_positions_can_be_taken_away():
    """Without them the order of tokens says nothing, also where a layer is what turns queries and keys."""
    ours = network(positions="rotary", prefix=0)
    order = torch.tensor([5, 2, 0, 4, 1, 3])
    own, blind, moved = (
        ours(ids, edit=Edit(positions=how)).logits["word"]
        for ids, how in ((IDS[0], "own"), (IDS[0], "none"), (IDS[0, order], "none"))
    )
    assert torch.allclose(moved, blind[order], atol=1e-10)
    assert not torch.allclose(own, blind)


def test_places_without_a_sentence_keep_their_rows_wherever_reading_begins():
    torch.manual_seed(0)
    pieces = TokenEmbedding(SHAPE, prefix=2)
    table = pieces.positions
    assert torch.equal(pieces.position_embeddings(4, "none"), torch.cat([table[:2], torch.zeros(2, 24)]))
    assert torch.equal(pieces.position_embeddings(3, "none", begin=1), torch.cat([table[1:2], torch.zeros(2, 24)]))
    assert not pieces.position_embeddings(3, "none", begin=2).any()
    assert torch.equal(pieces.position_embeddings(9, "shuffled")[:2], table[:2])
    assert torch.equal(pieces.position_embeddings(9, "shuffled"), pieces.position_embeddings(9, "shuffled"))
    order = (pieces.position_embeddings(12, "shuffled")[2:, None] == table[None, 2:12]).all(-1).int().argmax(-1)
    assert sorted(order.tolist()) == [*range(10)]
    assert (order.diff().abs() == 1).sum() < 4, "hardly any two stay neighbours, as they would when turned round"


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"causal": True, "prefix": 0}, [0, 0, 0, 0, 0, 1]),
        ({"pooling": "cls"}, [1, 0, 0, 0, 0, 0]),
        ({"pooling": "mean"}, [1 / 6] * 6),  # CLS is one of them
    ],
)
def test_one_answer_comes_from_the_first_the_last_or_all_tokens(changes: dict[str, Any], wanted: list[float]):
    ours = network(**changes)
    trace = ours(IDS)
    assert trace.pooling["main"].tolist() == [pytest.approx(wanted)] * 2
    last = ours.norm(trace.residuals["main"][-1])
    answer = ours.outputs["sentiment"](torch.tensor(wanted).double() @ last)
    assert trace.logits["sentiment"].shape == (2, 1, 2)
    assert torch.allclose(trace.logits["sentiment"][:, 0], answer, atol=1e-7)


# ---- where training starts


def spread(weight: torch.Tensor) -> float:
    """The deviation of numbers that were drawn."""
    return float(weight.detach().std())


@pytest.mark.parametrize(("gated", "cross", "writers"), [(False, False, 8), (True, False, 8), (False, True, 12)])
def test_what_writes_into_the_residual_starts_smaller_than_what_reads_it(gated: bool, cross: bool, writers: int):
    """At 1/root(inputs), and that over the root of all that write: depth then starts calm."""
    torch.manual_seed(0)
    config = LayerConfig(width=64, heads=2, mlp=3, gated=gated)
    layers = [Block(config, numbered(4), index, cross=cross) for index in range(4)]
    initialise(layers)
    for layer in layers:
        into, out = (layer.mlp.gate, layer.mlp.down) if gated else (layer.mlp[0], layer.mlp[2])
        small = [layer.attention.out, out, *([layer.cross.out] if cross else [])]
        plain = [layer.attention.query, layer.attention.value, into, *([layer.cross.value] if cross else [])]
        for linear in small:
            assert spread(linear.weight) == pytest.approx(linear.in_features**-0.5 * writers**-0.5, rel=0.1)
        for linear in plain:
            assert spread(linear.weight) == pytest.approx(linear.in_features**-0.5, rel=0.1)
        assert not any(linear.bias.any() for linear in (*small, *plain) if linear.bias is not None)


def test_both_sides_of_a_translator_start_so():
    torch.manual_seed(0)
    ours = Translator(TranslatorConfig(vocabulary=50, width=64, layers=2, heads=2))
    for layers, writers in ((ours.encoder, 4), (ours.decoder, 6)):
        for layer in layers:
            assert spread(layer.attention.out.weight) == pytest.approx(64**-0.5 * writers**-0.5, rel=0.1)


def test_tables_and_answers_start_small():
    torch.manual_seed(0)
    ours = Reader(ReaderConfig(vocabulary=200, width=64, layers=1, heads=2, outputs={"tag": 50}))
    assert spread(ours.pieces.table) == pytest.approx(64**-0.5, rel=0.1)
    assert spread(ours.outputs["tag"].weight) == pytest.approx(0.1 * (3 * 64) ** -0.5, rel=0.1)  # of torch's own
    assert not ours.pieces.bias.any()
    assert "pieces.positions" not in ours.state_dict(), "sines and cosines are not shipped"


@pytest.mark.parametrize("norm", ["layer", "rms"])
def test_small_features_are_normalised_too(norm: Any):
    x = 0.03 * torch.randn(5, 24, generator=torch.Generator().manual_seed(0))
    found = norm_of(LayerConfig(width=24, norm=norm))(x)
    assert found.square().mean(-1).sqrt().tolist() == pytest.approx([1] * 5, abs=0.01)


@pytest.mark.parametrize("name", [name for name, kind in VARIANTS.items() if not kind.requirements])
def test_any_variant_fits(name: str):
    ours = Reader(ReaderConfig(vocabulary=50, width=24, layers=1, heads=3, variant=name, context_length=12))
    trace = ours(IDS[0])
    assert trace.logits["word"].shape == (6, 50)
    assert torch.isfinite(trace.logits["word"]).all()


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="variant is 'hard'"):
        LayerConfig(variant="hard")
    with pytest.raises(ValueError, match="positions is 'gps'"):
        LayerConfig(positions="gps")
    assert numbered(3, 1) is numbered(3, 1)
