"""The language model of stories: its loss, its training cut off and gone on with, and how it is judged."""

from __future__ import annotations

import gzip
import json
import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import attnviz
from attnviz.models.files import ASSETS
from attnviz.models.subwords import BOS, EOS, load_subwords
from attnviz.models.text import Reader, ReaderConfig
from attnviz.training.images.evaluate import interval
from attnviz.training.text import blimp, corpus, stories
from attnviz.training.text.loop import TextRecipe, padded
from attnviz.training.text.next_piece import CHUNK, next_piece_loss
from attnviz.training.text.skipgram import TextProgress

SHAPE = ReaderConfig(
    width=16,
    layers=2,
    heads=2,
    variant="gqa",
    options={"groups": 1, "bias": False},
    norm="rms",
    gated=True,
    mlp=2,
    positions="rotary",
    context_length=24,
    causal=True,
)
RECIPE = TextRecipe(steps=6, batch=64, learning_rate=1e-2, ema_decay=0.5)
SIZE = stories.Size(SHAPE, RECIPE)
CPU = torch.device("cpu")
TALE = "Once there was a small dog. The dog saw a ball and ran to it. The ball was red."
PAIRS = [
    ("agreement", "syntax", "heads", "The dog runs.", "The dog run."),
    ("agreement", "syntax", "heads", "The dogs run.", "The dogs runs."),
    ("order", "syntax", "places", "The red ball.", "Ball red the."),
    ("order", "syntax", "places", "A small dog.", "Dog small a."),
]


def silent(stand: TextProgress) -> None:
    """Nobody watches."""


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A few lines of every file the training reads."""
    folder = tmp_path / "data" / "text"
    folder.mkdir(parents=True)
    story, novel = f"{TALE}\n{TALE}\n<|end|>\n", f"{TALE}\n" * 5 + "<|end|>\n"
    monkeypatch.setattr(corpus, "TALE", 4 * len(TALE))
    files = {
        "lm_stories_train.txt.gz": story * 2 + novel + story,
        "lm_stories_val.txt.gz": story,
        "captions_en.txt.gz": "A dog with a ball.\nA red ball.\nTwo dogs run.\n",
        "tatoeba_en_fr.tsv.gz": "split\ten\tfr\ntrain\tI see a dog.\tJe vois un chien.\n",
        "multi30k_en_de_fr.tsv.gz": "split\ten\tde\tfr\ntrain\tA man.\tEin Mann.\tUn homme.\n",
        "ud_ewt_train.conllu.gz": "# text = Go.\n1\tGo\tgo\tVERB\t_\t_\t0\troot\t_\t_\n\n",
        "blimp.tsv.gz": "uid\tfield\tterm\tgood\tbad\n" + "".join("\t".join(pair) + "\n" for pair in PAIRS),
    }
    for name, text in files.items():
        with gzip.open(folder / name, "wt", encoding="utf-8") as file:
            file.write(text)
    monkeypatch.setenv("ATTNVIZ_DATA", str(folder.parent))
    return folder


def reader(seed: int = 0) -> Reader:
    """A small network, each time the same."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Reader(SHAPE).eval().requires_grad_(False)


@pytest.mark.parametrize("tokens", [1, 7, CHUNK + 3])
def test_the_loss_in_parts_is_the_cross_entropy_with_its_gradients(tokens: int):
    random = torch.Generator().manual_seed(tokens)
    shapes = ((tokens, 8), (30, 8), (30,))
    given = [torch.randn(shape, generator=random).requires_grad_() for shape in shapes]
    wanted = torch.randint(30, (tokens,), generator=random)
    features, table, bias = given
    expected = F.cross_entropy(features @ table.T + bias, wanted)
    loss = next_piece_loss(features, table, bias, wanted)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    for ours, theirs in zip(
        torch.autograd.grad(3 * loss, given), torch.autograd.grad(3 * expected, given), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_of_no_piece_the_loss_is_none_and_of_an_unlikely_one_finite():
    none = next_piece_loss(torch.zeros(0, 8), torch.zeros(30, 8), torch.zeros(30), torch.zeros(0, dtype=torch.long))
    assert none.item() == 0
    bias = torch.tensor([0.0, 40.0])
    assert next_piece_loss(torch.zeros(1, 8), torch.zeros(2, 8), bias, torch.tensor([0])).item() == pytest.approx(40)


def test_a_training_writes_weights_that_open_and_a_card_with_its_facts(data: Path, tmp_path: Path):
    card = stories.run_stories(tmp_path / "out", CPU, silent, size=SIZE)
    facts = json.loads((tmp_path / "out" / "config.json").read_text())["facts"]
    model = attnviz.load("stories", folder=tmp_path / "out")
    assert (model.config, facts["steps"], facts["schedule"]) == (SHAPE, 6, 6)
    assert "6 of the 6 steps of its schedule" in card
    assert (facts["blimp_pairs"], set(facts["blimp_by_term"])) == (4, {"heads", "places"})
    assert list(facts["samples"]) == ["0", "1", "2"]
    assert (facts["blimp_each"], facts["held_out_words"]) == ("all", 2 * len(TALE.split()))
    assert f"seeds 0, 1 and 2, {stories.SAMPLE} pieces" in card
    assert all(text.startswith("Once upon a time") for text in facts["samples"].values())
    assert all("\ufffd" not in text for text in facts["samples"].values())


def test_a_training_stopped_early_says_so_and_goes_on_as_if_it_had_not_been(data: Path, tmp_path: Path):
    kept = tmp_path / "checkpoint.pt"
    sooner = replace(SIZE, recipe=replace(RECIPE, until=3), pairs=1)
    card = stories.run_stories(tmp_path / "early", CPU, silent, kept, sooner)
    assert "3 of the 6 steps of its schedule" in card
    assert "of 2 pairs, 1 of each paradigm" in card
    stories.run_stories(tmp_path / "later", CPU, silent, kept, SIZE)
    stories.run_stories(tmp_path / "once", CPU, silent, size=SIZE)
    early, later, once = (
        attnviz.load("stories", folder=tmp_path / name).network.state_dict() for name in ("early", "later", "once")
    )
    assert all(torch.equal(later[name], once[name]) for name in once)
    assert not all(torch.equal(early[name], once[name]) for name in once)
    with pytest.raises(ValueError, match="has gone on to step 6 of 6"):
        stories.run_stories(tmp_path / "back", CPU, silent, kept, replace(SIZE, recipe=replace(RECIPE, until=3)))


def test_what_is_shipped_goes_on_from_its_weights_and_the_card_tells_both(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    stories.run_stories(tmp_path / "out", CPU, silent, size=SIZE)
    monkeypatch.setattr(stories, "load_text", partial(attnviz.load, folder=tmp_path / "out"))
    still = replace(SIZE, recipe=replace(RECIPE, learning_rate=0.0, seed=1), init_from="stories")
    card = stories.run_stories(tmp_path / "more", CPU, silent, size=still)
    facts = json.loads((tmp_path / "more" / "config.json").read_text())["facts"]
    assert facts["before"]["blimp"] == facts["blimp"]
    assert "| before that | 6 steps of 64 pieces, seed 0, " in card
    first, later = (attnviz.load("stories", folder=tmp_path / name).network.state_dict() for name in ("out", "more"))
    assert all(torch.equal(first[name], later[name]) for name in first)


def test_the_shipped_network_is_the_one_that_is_trained_here():
    shipped = attnviz.load("stories")
    assert shipped.config == stories.SHAPE
    assert stories.SIZES["more"].pairs == shipped.facts["blimp_each"] == 300
    card = (ASSETS / "stories" / "card.md").read_text(encoding="utf-8")
    assert f'After "{stories.BEGIN}"' in card
    assert f"{stories.SAMPLE} pieces, nothing chosen" in card


def test_the_loss_is_that_of_every_next_piece(data: Path, monkeypatch: pytest.MonkeyPatch):
    """Of texts of two lengths: what fills up the shorter one is neither read nor asked for."""
    told, network = stories.Told(SIZE, load_subwords(), CPU), reader()
    texts = [np.array([BOS, 30, 31, 32, EOS]), np.array([BOS, 40, EOS])]
    monkeypatch.setattr(told, "texts", lambda at_last, random: texts)
    total, count = 0.0, 0
    for row in map(torch.from_numpy, texts):
        logits = network(row[:-1]).logits["word"].log_softmax(-1)
        total -= float(logits.gather(-1, row[1:, None]).sum())
        count += len(row) - 1
    assert float(told.loss(network, 0.0, np.random.default_rng(0))) == pytest.approx(total / count, rel=1e-5)


def test_a_batch_holds_as_many_stretches_as_have_room(data: Path):
    told = stories.Told(SIZE, load_subwords(), CPU)
    lengths = [
        len(row) - 1
        for seed in range(800)
        for row in told.texts(False, np.random.default_rng(seed))
        if row[-1] != EOS or len(row) > 20
    ]
    assert set(lengths) <= {6, 12, 24}
    batches = [told.texts(False, np.random.default_rng(seed)) for seed in range(200)]
    stretches = [batch for batch in batches if len({len(row) for row in batch}) == 1 and batch[0][-1] != EOS]
    assert {(len(batch), len(batch[0]) - 1) for batch in stretches} >= {(10, 6), (5, 12), (2, 24)}
    few = stories.Told(replace(SIZE, recipe=replace(RECIPE, batch=30)), load_subwords(), CPU)
    few.shares = {"tales": 1.0}
    drawn = [few.texts(False, np.random.default_rng(seed)) for seed in range(30)]
    assert {(len(batch), len(batch[0]) - 1) for batch in drawn} == {(5, 6), (2, 12), (1, 24)}
    often = [sum(len(batch[0]) == 1 + length for batch in stretches) / len(stretches) for length in (6, 12, 24)]
    assert often == pytest.approx([0.5, 0.25, 0.25], abs=0.1)


def test_a_row_hardly_longer_than_a_stretch_is_read(data: Path):
    told = stories.Told(SIZE, load_subwords(), CPU)
    told.rows["tales"], told.shares = np.arange(100, 103, dtype=np.int16), {"tales": 1.0}
    for seed in range(5):
        assert {tuple(row) for row in told.texts(False, np.random.default_rng(seed))} == {(BOS, 100, 101)}


def test_a_long_sentence_fills_the_network_and_ends(data: Path):
    with gzip.open(data / "captions_en.txt.gz", "wt", encoding="utf-8") as file:
        file.write("held out\n" + "dog " * 60)
    (row,) = stories.Told(SIZE, load_subwords(), CPU).short["captions"]
    assert len(row) == SHAPE.context_length + 1
    assert (row[0], row[-1]) == (BOS, EOS)


@pytest.mark.parametrize("at_last", [False, True])
def test_batches_are_stretches_of_stories_and_whole_short_texts(at_last: bool, data: Path):
    subwords = load_subwords()
    told = stories.Told(SIZE, subwords, CPU)
    assert {kind: int((row == EOS).sum()) for kind, row in told.rows.items()} == {"tales": 3, "novels": 1}
    assert {kind: len(texts) for kind, texts in told.short.items()} == {"said": 3, "captions": 2}  # one is held out
    assert any(np.array_equal(row, [BOS, *subwords.ids("Go."), EOS]) for row in told.short["said"])
    lengths, short = set(), 0
    for seed in range(60):
        for row in told.texts(at_last, np.random.default_rng(seed)):
            assert row[0] == BOS
            assert len(row) <= SHAPE.context_length + 1
            short += any(np.array_equal(row, known) for texts in told.short.values() for known in texts)
            lengths.add(len(row) - 1)
    assert short
    assert {6, 12, 24} <= lengths


@pytest.mark.parametrize("at_last", [False, True])
@pytest.mark.parametrize("size", stories.SIZES)
def test_every_kind_of_text_comes_as_often_as_planned(size: str, at_last: bool, data: Path):
    planned = stories.SIZES[size]
    shares = planned.at_last if at_last else planned.shares
    assert sum(shares.values()) == pytest.approx(1)
    told = stories.Told(replace(SIZE, shares=planned.shares, at_last=planned.at_last), load_subwords(), CPU)
    told.rows = {kind: np.full(100, i, dtype=np.int16) for i, kind in enumerate(told.rows)}
    told.short = {
        kind: [np.full(9, 2 + i, dtype=np.int16)] * len(texts) for i, (kind, texts) in enumerate(told.short.items())
    }
    found = np.bincount([told.texts(at_last, np.random.default_rng(seed))[0][-1] for seed in range(2000)]) / 2000
    assert found == pytest.approx([shares[kind] for kind in (*told.rows, *told.short)], abs=0.04)


@pytest.mark.parametrize(("at_last", "share"), [(False, 0.0), (True, 0.5)])
def test_at_last_many_stretches_begin_with_a_tale(at_last: bool, share: float, data: Path):
    told = stories.Told(SIZE, load_subwords(), CPU)
    told.rows["tales"] = np.arange(100, 2100, dtype=np.int16)  # each piece says where it stands
    told.rows["tales"][[499, 999]] = EOS
    told.tales_begin = np.array([0, 500, 1000])
    drawn = [told.texts(at_last, np.random.default_rng(seed)) for seed in range(2000)]
    tales = [int(row[1]) for texts in drawn for row in texts if row[1] >= 100 and row[-1] == row[1] + len(row) - 2]
    assert len(tales) > 1000
    assert np.mean(np.isin(tales, [100, 600, 1100])) == pytest.approx(share, abs=0.05)


def test_a_tale_begins_where_the_one_before_has_ended(data: Path):
    told = stories.Told(SIZE, load_subwords(), CPU)
    row = told.rows["tales"]
    assert told.tales_begin.tolist() == [0, *(i + 1 for i in range(len(row) - 1) if row[i] == EOS)]
    assert len(told.tales_begin) == 3


@pytest.mark.parametrize("size", stories.SIZES)
def test_what_comes_at_last_does_not_come_first(size: str, data: Path, monkeypatch: pytest.MonkeyPatch):
    """A size with other shares at last holds its rate for a while, and reads by its own shares until then."""
    planned = stories.SIZES[size]
    told = stories.Told(replace(SIZE, recipe=planned.recipe), load_subwords(), CPU)
    asked, network = list[bool](), reader()
    monkeypatch.setattr(told, "texts", lambda at_last, random: asked.append(at_last) or [np.array([BOS, 9, 9])])
    for progress in (0.0, 0.5, 0.99):
        told.loss(network, progress, np.random.default_rng(0))
    assert planned.at_last != planned.shares
    assert asked == [False, False, True]


def test_batches_change_when_the_rate_begins_to_fall(data: Path, monkeypatch: pytest.MonkeyPatch):
    recipe = replace(RECIPE, hold=0.5)
    told = stories.Told(replace(SIZE, recipe=recipe), load_subwords(), CPU)
    asked, texts = [], told.texts
    monkeypatch.setattr(told, "texts", lambda at_last, random: asked.append(at_last) or texts(at_last, random))
    stories.trained(reader().train().requires_grad_(True), recipe, told.loss, CPU, silent)
    assert asked == [False] * 3 + [True] * 3


@pytest.mark.parametrize("count", [0, 1, 23, 24, 25, 36, 37, 100])
@pytest.mark.parametrize("stride", [1, 12, 24])
def test_windows_judge_every_piece_once_with_enough_before_it(count: int, stride: int):
    judged = []
    for begin, new in blimp.windows(count, 24, stride):
        judged += range(new, min(count, begin + 24))
        assert begin == 0 or new - begin == 24 - stride
    assert judged == list(range(count))


def test_perplexity_is_that_of_one_piece_after_another(data: Path):
    network, subwords, text = reader(), load_subwords(), "The dog saw a ball."
    ids = [BOS, *subwords.ids(text)]
    total = 0.0
    for place in range(1, len(ids)):
        logits = network(torch.tensor(ids[:place])).logits["word"]
        total -= logits[-1].double().log_softmax(-1)[ids[place]].item()
    facts = blimp.perplexity(network, subwords, [["The dog", "saw a ball."]])
    assert facts["perplexity_piece"] == pytest.approx(math.exp(total / (len(ids) - 1)), abs=0.01)
    assert facts["perplexity_word"] == pytest.approx(math.exp(total / 5), abs=0.01)
    assert (facts["window"], facts["stride"]) == (24, 12)
    assert (facts["held_out_words"], facts["held_out_pieces"]) == (5, len(ids) - 1)


@pytest.mark.parametrize("stride", [None, 5, 24])
def test_a_long_story_is_read_in_windows_that_begin_with_bos(stride: int | None, data: Path):
    """Each piece has longest - stride pieces of the story before it, or all there are."""
    network, subwords = reader(), load_subwords()
    row, moved, total = subwords.ids(" ".join([TALE] * 3)), stride or 12, 0.0
    for place, piece in enumerate(row):
        window = 0 if place < 24 else moved * math.ceil((place - 23) / moved)
        ids = torch.tensor([BOS, *row[window:place]])
        total -= network(ids).logits["word"][-1].double().log_softmax(-1)[piece].item()
    facts = blimp.perplexity(network, subwords, [[" ".join([TALE] * 3)]], stride)
    assert facts["held_out_pieces"] == len(row) > 50
    assert facts["perplexity_piece"] == pytest.approx(math.exp(total / len(row)), rel=1e-4)


def test_what_fills_up_a_text_has_no_probability():
    network = reader()
    ids, said = padded([[BOS, 30, 31, 32], [BOS, 40]], CPU)
    found = blimp.log_probabilities(network, ids, said)
    assert found.shape == (2, 3)
    assert found[1, 1:].tolist() == [0, 0]
    alone = blimp.log_probabilities(network, ids[1:, :2], said[1:, :2])
    torch.testing.assert_close(found[1, :1], alone[0])


def test_sentences_judged_together_score_as_they_do_alone():
    network, subwords = reader(), load_subwords()
    sentences = [text for pair in PAIRS for text in pair[3:]]
    together = blimp.sentence_scores(network, subwords, sentences)
    for text, score in zip(sentences, together, strict=True):
        ids = torch.tensor([BOS, *subwords.ids(text), EOS])
        logits = network(ids[:-1]).logits["word"].log_softmax(-1)
        assert score == pytest.approx(logits.gather(-1, ids[1:, None]).sum().item(), abs=1e-3)


def test_minimal_pairs_are_counted_where_the_good_sentence_is_likelier(data: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(blimp, "sentence_scores", lambda *_: np.array([-1, -2, -2, -1, -1, -2, -1, -2]))
    facts = blimp.blimp(reader(), load_subwords())
    assert (facts["blimp"], facts["blimp_each"], facts["blimp_pairs"]) == (75.0, "all", 4)
    assert facts["blimp_interval"] == interval(75.0, 4)
    half, whole = [50.0, *interval(50.0, 2)], [100.0, *interval(100.0, 2)]
    assert facts["blimp_by_paradigm"] == {"agreement": half, "order": whole}
    assert facts["blimp_by_term"] == {"heads": half, "places": whole}
    assert facts["blimp_by_field"] == {"syntax": [75.0, *interval(75.0, 4)]}
    assert [pair.paradigm for pair in blimp.pairs(1)] == ["agreement", "order"]


def test_a_pair_that_is_equally_likely_is_not_right(data: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(blimp, "sentence_scores", lambda *_: np.full(8, -1.0))
    assert blimp.blimp(reader(), load_subwords())["blimp"] == 0.0


def test_a_tale_is_as_long_as_allowed_and_no_longer(data: Path):
    story = [TALE, TALE]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus, "TALE", 2 * len(TALE))
        assert [*corpus.stories("val", "tales")] == [story]
        assert not [*corpus.stories("val", "novels")]
        patch.setattr(corpus, "TALE", 2 * len(TALE) - 1)
        assert [*corpus.stories("val", "novels")] == [story]


def test_captions_are_dealt_to_one_split_or_the_other(data: Path):
    assert [*corpus.captions("val")] == ["A dog with a ball."]
    assert [*corpus.captions("train")] == ["A red ball.", "Two dogs run."]


def test_the_command_names_what_was_changed():
    assert stories.changed("cpu", {"until": 9}).options == " --until 9"
    assert stories.changed("gpu", {}).options == " --size gpu"
    assert stories.changed("cpu", {"until": 9}).recipe.last == 9
