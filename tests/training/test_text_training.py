"""How text models learn: batches, resuming, what the encoder is asked, and how the treebank is read."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from attnviz.models.store import load_text
from attnviz.models.subwords import CLS, MASK, PAD, SEP, load_subwords
from attnviz.models.text import Reader, ReaderConfig
from attnviz.models.text_model import TAGS
from attnviz.training import card
from attnviz.training.images.evaluate import interval
from attnviz.training.text import corpus, evaluation, loop, sentences
from attnviz.training.text.evaluation import predict_parse
from attnviz.training.text.tagged import add_special_tokens, encode_sentences, flatten
from tests.small_training import FixedAnswers, Small, loss

CPU = torch.device("cpu")
RECIPE = loop.TextRecipe(steps=6, batch=64, learning_rate=1e-2)
SHAPE = ReaderConfig(
    vocabulary=8000,
    width=24,
    layers=2,
    heads=3,
    positions="learned1d",
    context_length=64,
    prefix=1,
    outputs={"sentiment": 2, "tag": len(TAGS)},
)


def small() -> Small:
    torch.manual_seed(0)
    return Small()


def test_an_interrupted_run_resumes_exactly(tmp_path: Path):
    whole, _ = loop.train(small(), RECIPE, loss, CPU, lambda progress: None)
    first = loop.TextRun(small(), RECIPE, loss, CPU)
    for _ in range(3):
        first.advance()
    first.save(tmp_path / "state.pt")
    torch.manual_seed(99)  # nothing may hang on the global state
    again, _ = loop.train(small(), RECIPE, loss, CPU, lambda progress: None, tmp_path / "state.pt")
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name


def test_the_learning_rate_warms_up_holds_and_decays():
    held = loop.TextRecipe(steps=100, learning_rate=2.0, warmup=10, hold=0.6)
    rates = [held.learning_rate_at(step) for step in range(100)]
    assert rates[:3] == pytest.approx([0.2, 0.4, 0.6])
    assert rates[9:61] == pytest.approx([2.0] * 52)
    assert rates[80] == pytest.approx(1.0)
    assert rates[99] < 0.01
    assert rates[60:] == sorted(rates[60:], reverse=True)
    falling = loop.TextRecipe(steps=100, learning_rate=2.0, warmup=10)
    assert max(range(100), key=falling.learning_rate_at) in (9, 10)
    short = loop.TextRecipe(steps=6, learning_rate=2.0)  # a warmup longer than the training does not eat it
    assert [short.learning_rate_at(step) for step in range(6)] == pytest.approx([2 / 3, 4 / 3, 2.0, 2.0, 1.5, 0.5])
    assert short.last == 6
    assert [replace(short, until=until).last for until in (4, 6, 9)] == [4, 6, 6]


def test_the_defaults_of_a_recipe():
    """The shipped networks were trained with these numbers, which their cards do not say."""
    recipe = loop.TextRecipe(steps=1)
    assert (recipe.warmup, recipe.hold, recipe.weight_decay, recipe.max_grad_norm) == (150, 0.0, 0.05, 1.0)
    assert (recipe.batch, recipe.learning_rate, recipe.ema_decay, recipe.seed) == (4096, 2e-3, 0.998, 0)


def test_every_step_of_every_seed_has_its_own_generator():
    drawn: list[float] = []

    def draw(network: Small, progress: float, random: np.random.Generator) -> torch.Tensor:
        drawn.append(random.random())
        return loss(network, progress, random)

    for seed in (0, 1, 2):
        run = loop.TextRun(small(), replace(RECIPE, seed=seed), draw, CPU)
        for _ in range(3):
            run.advance()
    assert len(set(drawn)) == 9, "nor is step 1 of seed 0 step 0 of seed 1"


def test_gradients_are_clipped_before_the_step(monkeypatch: pytest.MonkeyPatch):
    run, norms = loop.TextRun(small(), replace(RECIPE, max_grad_norm=0.25), lambda *given: 1000 * loss(*given), CPU), []
    step = run.optimisers[0].step

    def looked_at() -> None:
        norms.append(torch.cat([p.grad.flatten() for p in run.network.parameters() if p.grad is not None]).norm())
        step()

    monkeypatch.setattr(run.optimisers[0], "step", looked_at)
    run.advance()
    assert norms[0].item() == pytest.approx(0.25, rel=1e-3)


def test_seconds_add_up_and_losses_are_means(monkeypatch: pytest.MonkeyPatch):
    """By a clock that moves on by a second whenever it is read, and losses that count."""
    ticks, losses, seen = iter(range(100)), iter(range(1, 100)), list[loop.TextProgress]()
    monkeypatch.setattr(loop.time, "perf_counter", lambda: next(ticks))

    def counted(network: Small, progress: float, random: np.random.Generator) -> torch.Tensor:
        return network.last.bias.sum() * 0 + next(losses)

    _, seconds = loop.train(small(), RECIPE, counted, CPU, seen.append, every=4)
    assert seconds == 6
    assert [(progress.share, progress.loss, progress.seconds) for progress in seen] == [(4 / 6, 2.5, 4), (1, 5.5, 6)]


def test_a_longer_schedule_resumes_before_the_decay(tmp_path: Path):
    short, long = (loop.TextRecipe(steps=steps, batch=64, learning_rate=1e-2, warmup=2, hold=0.5) for steps in (6, 12))
    kept = tmp_path / "checkpoint.pt"
    loop.train(small(), short, loss, CPU, lambda progress: None, kept)
    assert torch.load(kept, weights_only=True)["step"] == 6
    assert torch.load(tmp_path / loop.BEFORE_DECAY, weights_only=True)["step"] == 3
    assert loop.find_resumable(kept, long) == tmp_path / loop.BEFORE_DECAY
    assert loop.find_resumable(kept, short) == kept
    later, _ = loop.train(small(), long, loss, CPU, lambda progress: None, kept)
    once, _ = loop.train(small(), long, loss, CPU, lambda progress: None)
    assert all(torch.equal(tensor, later.state_dict()[name]) for name, tensor in once.state_dict().items())


def test_a_schedule_may_be_shortened_while_the_learning_rate_is_held(tmp_path: Path):
    long, short = (loop.TextRecipe(steps=steps, batch=64, learning_rate=1e-2, warmup=2, hold=0.5) for steps in (12, 10))
    kept = tmp_path / "checkpoint.pt"
    loop.train(small(), replace(long, until=5), loss, CPU, lambda progress: None, kept)
    later, _ = loop.train(small(), short, loss, CPU, lambda progress: None, kept)
    assert torch.load(tmp_path / loop.BEFORE_DECAY, weights_only=True)["step"] == 5
    once, _ = loop.train(small(), short, loss, CPU, lambda progress: None)
    assert all(torch.equal(tensor, later.state_dict()[name]) for name, tensor in once.state_dict().items())


def test_a_checkpoint_of_another_schedule_is_refused(tmp_path: Path):
    kept = tmp_path / "checkpoint.pt"
    loop.train(small(), RECIPE, loss, CPU, lambda progress: None, kept)
    with pytest.raises(ValueError, match=r"is at step 6 of 6; the recipe stops after step 9 of 9\. Start"):
        loop.train(small(), replace(RECIPE, steps=9), loss, CPU, lambda progress: None, kept)


def test_it_learns_and_reports():
    seen: list[loop.TextProgress] = []
    recipe = loop.TextRecipe(steps=120, learning_rate=2e-2, ema_decay=0.9)
    network, seconds = loop.train(small(), recipe, loss, CPU, seen.append, every=20)
    assert seen[-1].loss < 0.5 * seen[0].loss
    assert seen[-1].share == 1
    assert seconds > 0
    assert not network.training


def test_a_batch_has_similar_lengths_and_every_token_is_equally_likely():
    lengths = np.array([3] * 200 + [10] * 100 + [40] * 20)
    random = np.random.default_rng(0)
    sampler = loop.LengthSampler(lengths, random)
    drawn = np.zeros(len(lengths))
    for _ in range(400):
        chosen = sampler.sample(80, random)
        assert len(set(chosen.tolist())) == len(chosen)
        assert len(chosen) * lengths[chosen].max() <= 80 or len(chosen) == 1
        drawn[chosen] += lengths[chosen]
    share = [drawn[lengths == n].sum() / drawn.sum() for n in (3, 10, 40)]
    tokens = [lengths[lengths == n].sum() / lengths.sum() for n in (3, 10, 40)]
    assert np.allclose(share, tokens, atol=0.12)


def test_the_shortest_text_is_sampled_no_more_often_than_the_longest():
    random = np.random.default_rng(0)
    sampler = loop.LengthSampler([1, 1], random)
    found = np.bincount([int(sampler.sample(1, random, spread=1)[0]) for _ in range(400)])
    assert found.tolist() == pytest.approx([200, 200], abs=50)


def test_batches_of_a_length_differ():
    sampler = loop.LengthSampler([5] * 64, np.random.default_rng(0))
    drawn = [frozenset(sampler.sample(20, np.random.default_rng(seed)).tolist()) for seed in range(300)]
    met = {other for texts in drawn if 7 in texts for other in texts}
    assert len(met) > 20, "not only those beside it on the sampler"


def test_padding():
    ids, keep = loop.pad([[5, 6, 7], [8]], CPU)
    assert ids.tolist() == [[5, 6, 7], [8, PAD, PAD]]
    assert keep.tolist() == [[True] * 3, [True, False, False]]
    assert loop.without_padding(keep).keep_tokens is keep  # type: ignore[union-attr]
    assert loop.without_padding(keep[:1]) is None
    assert loop.pad([[1]], CPU, length=4)[0].shape == (1, 4)


def test_matrices_inside_go_to_muon_and_the_rest_to_adamw():
    muon, plain = loop.text_optimisers(small(), replace(RECIPE, weight_decay=0.07))
    assert [group["weight_decay"] for group in (*muon.param_groups, *plain.param_groups)] == [0.07, 0.0]
    assert plain.param_groups[0]["betas"] == (0.9, 0.98)
    assert [p.shape for group in muon.param_groups for p in group["params"]] == [(4, 4)]
    assert len([p for group in plain.param_groups for p in group["params"]]) == 3


def test_treebank_sentences_as_the_encoder_reads_them():
    subwords = load_subwords()
    words = (
        corpus.Word(0, 3, "PRON", 3),
        corpus.Word(4, 7, "AUX", 3),
        corpus.Word(7, 10, "PART", 3),
        corpus.Word(11, 13, "VERB", -1),
        corpus.Word(13, 14, "PUNCT", 3),
    )
    (row,) = encode_sentences(subwords, [corpus.Sentence("She didn't go.", words)], 20)
    assert (row.ids[0], row.ids[-1]) == (CLS, SEP)
    labels = [subwords.label(i) for i in row.ids]
    assert [labels[i] for i in row.first] == ["She", "didn", "'t", "go", "."]
    tokens, tags, heads = flatten([row])
    assert tokens == row.first
    assert [TAGS[t] for t in tags] == ["PRON", "AUX", "PART", "VERB", "PUNCT"]
    assert heads == [row.first[3]] * 3 + [0] + [row.first[3]]
    assert add_special_tokens([9], [8, 7]) == [CLS, 9, SEP, 8, 7, SEP]
    pieces = len(subwords.ids("She didn't go."))
    for longest, kept in ((pieces, 1), (pieces - 1, 0)):
        assert len(encode_sentences(subwords, [corpus.Sentence("She didn't go.", words)], longest)) == kept
    assert not encode_sentences(subwords, [corpus.Sentence("", ())], 20)


def test_detokenise():
    text = "it 's a film that ca n't be ignored -lrb- or loved -rrb- , is n't it ?"
    assert corpus.detokenise(text) == "It's a film that can't be ignored (or loved), isn't it?"


@pytest.mark.data
def test_every_task_has_gradients(monkeypatch: pytest.MonkeyPatch):
    def few(subwords, longest):
        texts = [text for _, text in zip(range(300), corpus.captions("val"), strict=False)]
        return [np.array(add_special_tokens(ids), dtype=np.int16) for ids in subwords.batch(texts)]

    monkeypatch.setattr(sentences, "pretraining_texts", few)
    for name in ("treebank", "reviews"):
        some = [row for _, row in zip(range(200), getattr(corpus, name)("val"), strict=False)]
        monkeypatch.setattr(corpus, name, lambda split, some=some: iter(some))
    torch.manual_seed(0)
    network = Reader(SHAPE)
    plan = sentences.Plan(syntax_head=(1, 2), max_tokens=40)
    tasks = sentences.Tasks(plan, loop.TextRecipe(steps=2, batch=400), load_subwords(), CPU)
    for ask, touched in (
        (tasks.masked_loss, "pieces.bias"),
        (tasks.sentiment_loss, "outputs.sentiment.weight"),
        (tasks.parsing_loss, "outputs.tag.weight"),
    ):
        network.zero_grad()
        ask(network, np.random.default_rng(1)).backward()
        got = {name for name, p in network.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
        assert {touched, "blocks.0.mlp.0.weight", "pieces.table"} <= got
    gradient = dict(network.named_parameters())["blocks.1.attention.query.weight"].grad
    assert gradient is not None
    wanted = gradient.unflatten(0, (3, 8)).abs().sum((1, 2))
    assert wanted.argmax() == 2, "the syntax head is asked directly, the others only through what they hand on"
    hidden = tasks.mask_some(torch.full((50, 50), 100), np.random.default_rng(0))
    assert float((hidden == MASK).float().mean()) == pytest.approx(plan.input_mask_share, abs=0.02)
    rows = tasks.treebank[:3]
    tags, hits = predict_parse(network.eval(), rows)
    assert len(tags) == hits.shape[-1] == sum(len(row.first) for row in rows)


# ---- how the encoder is judged: by answers that are given

SENTENCE = corpus.Sentence(
    "A dog didn't run.",
    (
        corpus.Word(0, 1, "DET", 1),
        corpus.Word(2, 5, "NOUN", 4),
        corpus.Word(6, 9, "AUX", 4),
        corpus.Word(9, 12, "PART", 4),
        corpus.Word(13, 16, "VERB", -1),
        corpus.Word(16, 17, "PUNCT", 4),
    ),
)


def only(text: str, given: list[Any], monkeypatch: pytest.MonkeyPatch, split: str = "test") -> None:
    """A corpus that has these rows in this split, and no other split."""
    monkeypatch.setattr(corpus, text, lambda asked: iter({split: given}[asked]))


def test_sst2_is_evaluated_in_both_spellings(monkeypatch: pytest.MonkeyPatch):
    only("reviews", [(0, "a bore ."), (1, "weak"), (2, "a film"), (3, "fine"), (4, "it 's great")], monkeypatch)
    asked, said = list[list[str]](), iter(([False, False, True, False], [True, False, True, False]))
    monkeypatch.setattr(
        evaluation, "predict_sentiment", lambda network, subwords, texts: asked.append(texts) or np.array(next(said))
    )
    found = evaluation.evaluate_sentiment(FixedAnswers(), load_subwords())
    assert asked == [["A bore.", "Weak", "Fine", "It's great"], ["a bore .", "weak", "fine", "it 's great"]]
    assert found == {"sst2_held_out": 4, "sst2": 75.0, "sst2_lower": 50.0, "sst2_interval": interval(75.0, 4)}


@pytest.mark.parametrize(("logits", "praised"), [([0.0, 0.1], True), ([0.1, 0.0], False), ([0.1, 0.1], False)])
def test_the_larger_logit_decides_the_sentiment(logits: list[float], praised: bool):
    network = FixedAnswers({"sentiment": torch.tensor([logits])})
    texts = ["a " * 90, "a", "a b c"]
    assert evaluation.predict_sentiment(network, load_subwords(), texts).tolist() == [praised] * 3
    (read,) = network.inputs
    assert read.shape == (3, 64), "as much as the network has room for"


def fixed_heads() -> FixedAnswers:
    """Every word gets its tag at the piece it begins with; head 2 finds each word's head beside the word itself."""
    (row,) = encode_sentences(load_subwords(), [SENTENCE], 62)
    count = len(row.ids)
    weights, tags = torch.full((2, count, count), 1e-6), torch.zeros(count, len(TAGS))
    for token, tag, head in zip(*flatten([row]), strict=True):
        tags[token, tag] = 1
        weights[:, token, token] = 0.6
        weights[1, token, head] = 0.35
        weights[0, token, count - 1] = 0.5  # SEP is no word and counts for nothing
        weights[0, token, 1] += 0.2
    return FixedAnswers({"tag": tags}, [weights / weights.sum(-1, keepdim=True)])


def test_predict_parse_takes_the_largest_weight_beside_the_word_itself():
    network = fixed_heads()
    rows = encode_sentences(load_subwords(), [SENTENCE], 62)
    tags, hits = predict_parse(network, rows)
    assert [TAGS[tag] for tag in tags] == [word.tag for word in SENTENCE.words]
    assert hits.tolist() == [[[False] * 6, [True] * 6]]
    assert evaluation.predict_tags(network, rows).tolist() == tags.tolist()


def test_upos_is_evaluated_on_held_out_words(monkeypatch: pytest.MonkeyPatch):
    only("treebank", [SENTENCE], monkeypatch)
    network = fixed_heads()
    network.logits["tag"][1] = 0  # the first word is now called the first of all tags
    assert evaluation.evaluate_tags(network, load_subwords()) == {"words_held_out": 6, "upos": 83.33}


def test_uas_by_hand(monkeypatch: pytest.MonkeyPatch):
    only("treebank", [SENTENCE], monkeypatch)
    tags = np.array([TAGS.index(word.tag) for word in SENTENCE.words])
    hits = np.zeros((2, 2, 6), dtype=bool)
    hits[1, 0, :5], hits[0, 1, :3], hits[1, 1, 0] = True, True, True
    monkeypatch.setattr(evaluation, "predict_parse", lambda network, rows: (np.where(tags == tags[0], 0, tags), hits))
    found = evaluation.evaluate_parsing(FixedAnswers(), load_subwords(), (1, 0))
    assert (found["words_held_out"], found["upos"]) == (6, 83.33)
    assert (found["uas"], found["uas_no_punct"]) == (83.33, 100.0)
    assert found["uas_best_other_head"] == "layer 1, head 2: 50.00"
    assert found["uas_by_head"] == [[0.0, 50.0], [83.33, 16.67]]
    assert (found["uas_previous_word"], found["uas_next_word"]) == (16.67, 33.33)  # the stop; the article and n't


def test_punctuation_tags():
    assert [TAGS[tag] for tag in evaluation.PUNCTUATION] == ["PUNCT", "SYM"]


def test_masked_accuracy_by_hand(monkeypatch: pytest.MonkeyPatch):
    """All texts are alike, so the places say what is hidden; dog is the first guess, cat the fifth, ball the sixth."""
    subwords, text = load_subwords(), " ".join(["dog cat ball"] * 4)
    dog, cat, ball = subwords.ids("dog cat ball")
    only("captions", [text] * 2000, monkeypatch, "val")
    only("translations", [(text, "")] * 1500, monkeypatch, "val")
    only("story_paragraphs", [text] * 700, monkeypatch, "val")
    network = FixedAnswers(pieces={dog: 9, 50: 8, 51: 7, 52: 6, cat: 5, ball: 4})
    found = evaluation.evaluate_masked(network, subwords, 62)
    read = torch.cat(network.inputs)
    away = read == MASK
    assert read.shape == (4000, 14), "no more texts than that"
    assert (read[:, 0] == CLS).all()
    assert (read[:, -1] == SEP).all()
    assert found["masked_held_out"] == away.sum()
    assert away[:, 1:-1].double().mean().item() == pytest.approx(0.15, abs=0.01)
    at = [int(away[:, 1 + word : 13 : 3].sum()) for word in range(3)]
    assert found["masked1"] == pytest.approx(100 * at[0] / sum(at), abs=0.005)
    assert found["masked5"] == pytest.approx(100 * (at[0] + at[1]) / sum(at), abs=0.005)


@pytest.mark.data
def test_the_treebank_is_read_whole():
    found = [*corpus.treebank("test")]
    assert (len(found), sum(len(s.words) for s in found)) == (2077, 25094)
    for sentence in found[:300]:
        assert sum(word.head < 0 for word in sentence.words) == 1
        assert all(-1 <= word.head < len(sentence.words) for word in sentence.words)
        assert all(word.tag in TAGS for word in sentence.words)


def test_a_card_lists_earlier_runs():
    first = {"steps": 3000, "batch": 4096, "seed": 0, "minutes": 102.8, "device": "cpu", "sst2": 74.74}
    second = {**first, "steps": 800, "seed": 1, "minutes": 20.0, "sst2": 78.0, "previous_run": first}
    assert sentences.earlier_runs({"steps": 9}) == []
    one, two = sentences.earlier_runs({"steps": 9, "previous_run": second})
    assert "800 steps of 4,096 tokens, seed 1, 20.0 minutes on cpu, 78.0 % on SST-2" in one
    assert "3,000 steps" in two


class Asked(sentences.Tasks):
    """Tasks that only say which kind of batch they would draw."""

    def __init__(self, plan: sentences.Plan):
        self.plan = plan

    def first(self, progress: float) -> set[str]:
        """The kinds of many batches at this progress."""
        for name in ("sentiment_loss", "parsing_loss", "masked_loss"):
            setattr(self, name, lambda network, random, name=name: name)
        ask: Any = inspect.unwrap(sentences.Tasks.loss)
        return {ask(self, None, progress, np.random.default_rng(seed)) for seed in range(100)}


def test_a_continued_run_trains_all_tasks_from_the_first_step():
    """What begins from nothing only guesses hidden words at first; the shipped network is asked all at once."""
    plans = {name: plan for name, (_, _, plan) in sentences.SIZES.items()}
    everything = {"sentiment_loss", "parsing_loss", "masked_loss"}
    assert {name: Asked(plan).first(0.0) for name, plan in plans.items()} == {
        "cpu": {"masked_loss"},
        "gpu": {"masked_loss"},
        "more": everything,
    }
    assert all(Asked(plan).first(plan.pretraining) == everything for plan in plans.values())
    shipped = load_text("sentences")
    assert sentences.SIZES["more"][0] == shipped.config, "it is the shipped network that goes on"
    assert sentences.SIZES["more"][2].syntax_head == tuple(shipped.facts["syntax"]), "with the head it was taught"
    assert {"sst2", "steps", "threads"} <= card.previous_run(shipped.facts, sentences.PREVIOUS_RUN_FIELDS).keys()
