"""Translators: decoding against the whole pass, beams against trying everything, torch's own transformer, bad input."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attnviz.edits import Edit
from attnviz.models.beam import Beam, beam_search
from attnviz.models.files import DamagedModel
from attnviz.models.seq2seq import Seq2Seq, Seq2SeqConfig
from attnviz.models.subwords import BOS, EOS, SPECIAL, load_subwords
from attnviz.models.text import WORD, Translator, TranslatorConfig
from attnviz.models.translation import TranslationModel

SENTENCES = ["The cat sleeps.", "I don't know.", "Where is my little dog?", "A man in a hat."]
ODD = [
    "",
    " ",
    "a",
    "👩‍🚀🚀",
    "שלום עולם",
    "\u202eabc\u0000\u0007",
    "<b>bold</b></script><script>alert(1)</script>",
    "犬が好きです",
    '"unpaired “quotes',
    "[MASK] [EOS]",
    "\n\t\r",
    "a" * 3000,
    "ﷺ" * 40,
]
KINDS = ["translator", "seq2seq"]


def network(kind: str, seed: int = 0) -> Any:
    """A small network, each time the same, sure enough of itself to write differing texts."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if kind == "translator":
            made: nn.Module = Translator(TranslatorConfig(width=24, layers=2, heads=3, context_length=64))
        else:
            made = Seq2Seq(Seq2SeqConfig(width=24, hidden=16, compared=8, context_length=64))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(1.7)
    return made.eval().requires_grad_(False)


def opened(kind: str, seed: int = 0) -> TranslationModel:
    """That network as a model."""
    return TranslationModel(kind, network(kind, seed), load_subwords())


def ids(count: int, seed: int = 0) -> Tensor:
    """Pieces at random."""
    return torch.randint(len(SPECIAL), 8000, (count,), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("new", [1, 3])
def test_decoding_with_a_past_is_the_whole_pass(kind: str, new: int):
    net = network(kind).double()
    source, target = ids(7), torch.cat([torch.tensor([BOS]), ids(8, 1)])
    whole = net(source, target).logits[WORD]
    memory, past = net.encode(source), []
    for begin in range(0, 9, new):
        scores, past = net.decode(memory, target[begin : begin + new], past)
        torch.testing.assert_close(scores, whole[begin + new - 1], atol=1e-10, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_leaks_from_the_future(kind: str):
    net = network(kind)
    source, target = ids(6), ids(8, 1)
    before = net(source, target).logits[WORD]
    for place in range(8):
        changed = target.clone()
        changed[place] = (changed[place] + 1) % 8000
        after = net(source, changed).logits[WORD]
        torch.testing.assert_close(after[:place], before[:place], atol=1e-5, rtol=0)
        assert not torch.equal(after[place], before[place])
    assert not torch.allclose(net(ids(6, 2), target).logits[WORD][0], before[0])


@pytest.mark.parametrize("kind", KINDS)
def test_padding_changes_nothing(kind: str):
    net = network(kind).double()
    source, target = ids(5), ids(4, 1)
    alone = net(source, target).logits[WORD]
    wide, keep = torch.zeros(2, 8, dtype=torch.long), torch.ones(2, 8, dtype=torch.bool)
    wide[0, :5], keep[0, 5:] = source, False
    wide[1] = ids(8, 2)
    both = net(wide, target.expand(2, -1), edit=Edit(keep_tokens=keep)).logits[WORD]
    torch.testing.assert_close(both[0], alone, atol=1e-10, rtol=0)
    torch.testing.assert_close(both[1], net(wide[1], target).logits[WORD], atol=1e-10, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_beam_of_one_is_greedy_and_batches_are_single_sentences(kind: str):
    model = opened(kind)
    samples = [model.prepare(text) for text in [*SENTENCES, ""]]
    for sample, (beam, *more) in zip(samples, model.batch(samples, 1), strict=True):
        assert tuple(model.greedy(sample)) == beam.ids
        assert not more
    for sample, together in zip(samples, model.batch(samples, 3), strict=True):
        alone = model.beams(sample, 3)
        assert [beam.ids for beam in alone] == [beam.ids for beam in together]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", [1, 2, 8])
def test_beams_are_sorted_bounded_unlike_and_as_likely_as_the_trace_says(kind: str, width: int):
    model = opened(kind)
    for text in SENTENCES[:2]:
        sample = model.prepare(text)
        found = model.beams(sample, width)
        assert 1 <= len(found) <= width
        assert [beam.score for beam in found] == sorted((beam.score for beam in found), reverse=True)
        assert len({model.text(beam.ids) for beam in found}) == len(found)
        for beam in found:
            assert len(beam.ids) <= model.limit(len(sample.inputs["source"]))
            assert EOS not in beam.ids[:-1]
            assert all(token >= len(SPECIAL) or token == EOS for token in beam.ids)
            said = model.trace(sample, beam.ids).logits[WORD].log_softmax(-1)
            total = sum(float(row[token]) for row, token in zip(said, beam.ids, strict=True))
            assert beam.total == pytest.approx(total, abs=1e-3)


class Chain:
    """What comes next depends on the last token only: 3 words and EOS, by a table of scores."""

    def __init__(self, seed: int):
        scores = torch.randn(9, 9, generator=torch.Generator().manual_seed(seed))
        self.table = 2 * scores
        self.said = self.table.log_softmax(-1)

    def encode(self, source: Tensor) -> Tensor:
        return source[..., None].float()

    def decode(self, memory: Tensor, ids: Tensor, past: Sequence[Any] = ()) -> tuple[Tensor, list[Any]]:
        return self.table[ids[:, -1]], []

    def everything(self, limit: int) -> list[Beam]:
        """Every text there is, ended or cut at the limit."""
        found = []
        for count in range(limit + 1):
            for words in itertools.product([6, 7, 8], repeat=count):
                written = words if count == limit else (*words, EOS)
                steps = zip((BOS, *written), written, strict=False)
                found.append(Beam(tuple(written), float(sum(self.said[a, b] for a, b in steps))))
        return sorted(found, key=lambda beam: -beam.score)


@pytest.mark.parametrize("seed", range(4))
def test_a_beam_wide_enough_finds_the_best_of_all(seed: int):
    chain = Chain(seed)
    (found,) = beam_search(chain, torch.tensor([[1, 2]]), width=45, limit=3)
    wanted = chain.everything(3)
    assert [beam.ids for beam in found] == [beam.ids for beam in wanted]
    assert [beam.total for beam in found] == pytest.approx([beam.total for beam in wanted], abs=1e-4)
    (narrow,) = beam_search(chain, torch.tensor([[1, 2]]), width=1, limit=3)
    token, greedy = BOS, []
    while len(greedy) < 3 and token != EOS:
        allowed = chain.said[token].clone()
        allowed[[i for i in range(6) if i != EOS]] = float("-inf")
        token = int(allowed.argmax())
        greedy.append(token)
    assert narrow[0].ids == tuple(greedy)


def in_loops(chain: Chain, width: int, limit: int) -> list[Beam]:
    """The search once more, over lists of texts."""
    going, ended = [Beam((), 0.0)], list[Beam]()
    for _ in range(limit):
        longer = [
            Beam((*beam.ids, token), beam.total + float(chain.said[(beam.ids or (BOS,))[-1], token]))
            for beam in going
            for token in (EOS, 6, 7, 8)
        ]
        ranked = sorted(longer, key=lambda beam: -beam.total)
        ended += [beam for beam in ranked[:width] if beam.ids[-1] == EOS]
        going = [beam for beam in ranked if beam.ids[-1] != EOS][:width]
        if len(ended) >= width:
            break
    else:
        ended += going[: width - len(ended)]
    return sorted(ended, key=lambda beam: -beam.score)[:width]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("width", [1, 2, 3, 6])
@pytest.mark.parametrize("limit", [1, 2, 7])
def test_a_narrow_beam_keeps_and_ends_what_lists_would(seed: int, width: int, limit: int):
    """Several end at once, some never begin, and what the limit cuts off only fills the places that are left."""
    chain = Chain(seed)
    wanted = in_loops(chain, width, limit)
    for found in beam_search(chain, torch.tensor([[1, 2], [3, 4]]), width=width, limit=limit):
        assert [beam.ids for beam in found] == [beam.ids for beam in wanted]
        assert [beam.total for beam in found] == pytest.approx([beam.total for beam in wanted], abs=1e-4)


def test_longer_texts_are_not_punished_for_their_length():
    """total / ((5 + length) / 6)^0.6: of 7 pieces, the root is taken of 2."""
    assert Beam((1,) * 7, -2.0).score == pytest.approx(-2 / 2**0.6)
    assert Beam((1,), -2.0).score == -2.0


def test_a_translation_may_be_twice_as_long_and_ten_pieces_more():
    model = opened("seq2seq")
    assert [model.limit(count) for count in (1, 5, 26, 27, 64)] == [12, 20, 62, 63, 63]
    sample = model.prepare(SENTENCES[0])
    assert model.beams(sample) == model.beams(sample, 4)


@pytest.mark.parametrize("width", [1, 4])
def test_a_search_shown_as_it_goes_ends_with_what_it_finds_at_once(width: int):
    model = opened("translator")
    sample = model.prepare(SENTENCES[0])
    ends = []

    def walked() -> Iterator[Beam]:
        ends.append((yield from model.searching(sample, width)))

    lengths = [len(beam.ids) for beam in walked()]
    assert ends == [model.beams(sample, width)]
    assert lengths == list(range(1, len(lengths) + 1))
    assert len(lengths) >= 2


@pytest.mark.parametrize("width", [0, 9])
def test_a_width_out_of_range_is_refused(width: int):
    with pytest.raises(ValueError, match="1 to 8"):
        opened("seq2seq").beams(opened("seq2seq").prepare("a"), width)


@pytest.mark.parametrize("text", ODD)
def test_any_text_is_prepared_and_translated(text: str):
    model = opened("seq2seq")
    sample = model.prepare(text)
    tokens = sample.tokens["source"]
    assert len(tokens) == len(sample.inputs["source"]) <= model.config.context_length
    assert tokens.labels[-1] == "EOS"
    assert sample.inputs["source"][-1] == EOS
    assert (sample.inputs["source"][:-1] >= len(SPECIAL)).all()  # what a visitor types is text
    written = tuple(model.greedy(sample))
    assert 1 <= len(written) <= model.limit(len(tokens))
    trace = model.trace(sample, written)
    assert len(trace.calls[-1].queries) == len(written)
    assert trace.logits[WORD].isfinite().all()


def test_what_is_too_long_is_cut_and_said():
    model = opened("translator")
    sample = model.prepare("word " * 10_000)
    assert len(sample.inputs["source"]) == 64
    assert sample.text
    assert sample.cut.startswith("word")
    assert sample.text.endswith("word")
    assert not model.prepare("word").cut


def test_a_trace_names_both_streams_and_its_steps():
    model = opened("translator")
    sample = model.prepare("The cat sleeps.")
    written = (*model.tokenizer.ids("Le chat dort."), EOS)
    trace = model.trace(sample, written)
    assert trace.sample is not None
    assert trace.sample.tokens["target"].labels == ("BOS", "Le", "chat", "dort", ".")
    assert trace.sample.tokens["target"].words == (-1, 0, 1, 2, 3)
    assert trace.sample.inputs["target"].tolist() == [BOS, *written[:-1]]
    assert trace.sample.digest != sample.digest
    assert trace.pooling["target"].tolist() == [0, 0, 0, 0, 1]
    cross = [call for call in trace.calls if call.name.endswith("cross")]
    assert [call.keys.stream for call in cross] == ["source"] * 2
    assert [call.queries.stream for call in cross] == ["target"] * 2
    assert [call.layer for call in cross] == [0, 1]
    with pytest.raises(ValueError, match="0 tokens"):
        model.trace(sample, ())


def test_pieces_of_a_word_go_together():
    model = opened("translator")
    for text in ("L'homme s'émerveille, déjà 24 fois !", "un œuf et 犬 🚀"):
        pieces = model.tokenizer.ids(text)
        named = model.named([BOS, *pieces, EOS])
        assert named.words is not None
        assert named.words[0] == named.words[-1] == -1
        words: dict[int, list[int]] = {}
        for token, word in zip(pieces, named.words[1:-1], strict=True):
            words.setdefault(word, []).append(token)
        spelled = [model.tokenizer.decode(word).strip() for _, word in sorted(words.items())]
        assert "".join(spelled) == text.replace(" ", "")
        assert list(words) == list(range(len(words)))


def test_letters_digits_and_other_signs_are_words_of_their_own():
    model = opened("translator")
    pieces = model.tokenizer.ids("Il a 24% de 7h!")
    words: dict[int, list[int]] = {}
    for token, word in zip(pieces, model.named(pieces).words or (), strict=True):
        words.setdefault(word, []).append(token)
    spelled = [model.tokenizer.decode(word).strip() for _, word in sorted(words.items())]
    assert spelled == ["Il", "a", "24", "%", "de", "7", "h", "!"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_output_is_the_map_times_the_value(kind: str):
    model = opened(kind)
    trace = model(model.prepare(SENTENCES[2]))
    for call in trace.calls:
        assert call.output is not None
        torch.testing.assert_close(call.token_map() @ call.value, call.output, atol=1e-5, rtol=0)
        torch.testing.assert_close(call.token_map().sum(-1), torch.ones(call.heads, len(call.queries)))


def test_it_computes_what_torchs_own_transformer_computes():
    net = network("translator")
    width, heads, hidden = 24, 3, 96
    options: dict[str, Any] = {
        "dim_feedforward": hidden,
        "dropout": 0.0,
        "activation": "gelu",
        "batch_first": True,
        "norm_first": True,
        "layer_norm_eps": 1e-6,
    }
    encoder = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(width, heads, **options), 2, nn.LayerNorm(width, 1e-6), enable_nested_tensor=False
    )
    decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(width, heads, **options), 2, nn.LayerNorm(width, 1e-6))
    nn.ModuleList([encoder, decoder]).eval().requires_grad_(False)
    for mine, theirs in zip(net.blocks["encoder"], encoder.layers, strict=True):
        take_layer(
            theirs,
            mine,
            [(theirs.self_attn, mine.attention)],
            [(theirs.norm1, mine.attention_norm), (theirs.norm2, mine.mlp_norm)],
        )
    for mine, theirs in zip(net.blocks["decoder"], decoder.layers, strict=True):
        take_layer(
            theirs,
            mine,
            [(theirs.self_attn, mine.attention), (theirs.multihead_attn, mine.cross)],
            [(theirs.norm1, mine.attention_norm), (theirs.norm2, mine.cross_norm), (theirs.norm3, mine.mlp_norm)],
        )
    for theirs, mine in ((encoder.norm, net.encoder_norm), (decoder.norm, net.norm)):
        assert theirs is not None
        theirs.load_state_dict(mine.state_dict())
    source, target = ids(9)[None], ids(7, 1)[None]
    start = {
        name: net.pieces.token_embeddings(x) + net.pieces.position_embeddings(x.shape[-1])
        for name, x in (("source", source), ("target", target))
    }
    memory = encoder(start["source"])
    torch.testing.assert_close(net.encode(source), memory, atol=1e-5, rtol=0)
    causal = nn.Transformer.generate_square_subsequent_mask(7)
    last = decoder(start["target"], memory, tgt_mask=causal)
    trace = net(source, target)
    torch.testing.assert_close(net.norm(trace.residuals["target"][-1]), last, atol=1e-5, rtol=0)
    torch.testing.assert_close(trace.logits[WORD], last @ net.pieces.table.T + net.pieces.bias, atol=1e-4, rtol=0)


def take_layer(theirs: Any, mine: Any, attentions: Sequence[tuple[Any, Any]], norms: Sequence[tuple[Any, Any]]) -> None:
    """Give a layer of torch's own the parameters of one of ours."""
    for their, our in attentions:
        their.in_proj_weight.copy_(torch.cat([our.query.weight, our.key.weight, our.value.weight]))
        their.in_proj_bias.copy_(torch.cat([our.query.bias, our.key.bias, our.value.bias]))
        their.out_proj.load_state_dict(our.out.state_dict())
    for their, our in norms:
        their.load_state_dict(our.state_dict())
    theirs.linear1.load_state_dict(mine.mlp[0].state_dict())
    theirs.linear2.load_state_dict(mine.mlp[2].state_dict())


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_saved_is_opened_and_damage_is_named(kind: str, tmp_path: Path):
    model = opened(kind)
    model.save(tmp_path / kind, "# card\n", {"bleu": 1.5})
    again = TranslationModel.open(tmp_path / kind)
    assert type(again.network) is type(model.network)
    assert again.facts == {"bleu": 1.5}
    sample = again.prepare(SENTENCES[0])
    torch.testing.assert_close(again(sample).logits[WORD][:1], model(sample).logits[WORD][:1], atol=0.05, rtol=0.05)
    config = (tmp_path / kind / "config.json").read_text()
    for damaged in ("{", config.replace('"kind"', '"kin"'), config.replace(model.tokenizer.digest, "other")):
        (tmp_path / kind / "config.json").write_text(damaged)
        with pytest.raises(DamagedModel):
            TranslationModel.open(tmp_path / kind)
    with pytest.raises(DamagedModel):
        TranslationModel.open(tmp_path / "nowhere")


@pytest.mark.parametrize("kind", ["translator", "seq2seq"])
def test_the_sample_of_a_trace_holds_its_translation(kind: str):
    """It is passed again with the tokens it was written with, whatever the network would write itself."""
    model = opened(kind)
    plain = model.prepare("The cat sleeps.")
    trace = model.trace(plain, [9, 8, 7, EOS])
    assert trace.sample is not None
    assert tuple(model.greedy(plain)) != (9, 8, 7, EOS)
    again = model(trace.sample)
    assert again.sample == trace.sample
    assert torch.equal(again.logits[WORD], trace.logits[WORD])
    other = model.trace(trace.sample, [9, 8, 6, EOS])  # tokens that are named win
    assert other.sample is not None
    assert other.sample.digest not in {trace.sample.digest, plain.digest}
    assert other.sample.inputs["target"].tolist() == [BOS, 9, 8, 6]
    assert len(model(plain).sample.inputs["target"]) == len(tuple(model.greedy(plain)))  # type: ignore[union-attr]
