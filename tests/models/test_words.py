"""Word vectors and the block over them: reading, neighbours, analogies; both losses by hand; training that learns."""

from __future__ import annotations

import gzip
import itertools
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from attnviz.models.files import ASSETS, DamagedModel
from attnviz.models.guess import GuessConfig, Guesser, guesses, load_guesser, save_guesser
from attnviz.models.words import NAME, WordVectors, load_words, words_of
from attnviz.training.images.data import NoData
from attnviz.training.text import corpus, guess, skipgram
from attnviz.types import Mask

SMALL = WordVectors(("the", "dog", "cat", "runs"), torch.tensor([[0.1, 0], [1, 0], [0.8, 0.6], [0, 2.0]]))


@pytest.fixture(scope="module")
def shipped() -> WordVectors:
    """What the app opens."""
    return load_words()


# ---- words


def test_words_of_a_text_in_any_script_and_nothing_else():
    assert words_of("The dog's bowl, it\u2019s EMPTY!") == ["the", "dog's", "bowl", "it's", "empty"]
    wild = "naïve 3 мир 犬 </script> <b>x</b> _a_ \u202eabc\x00 🐶"
    assert words_of(wild) == ["naïve", "3", "мир", "犬", "script", "b", "x", "b", "a", "abc"]
    assert words_of("") == words_of(" .,!?\n'\"") == []


def test_unless_told_otherwise_it_reads_as_much_as_the_block_over_it():
    assert len(SMALL.read("dog " * 30).words) == GuessConfig(words=1).context_length == 24
    many = WordVectors(tuple("abcdefghij"), torch.randn(10, 4))
    assert len(many.near(many.vectors[0])) == 8


def test_reading_says_what_it_leaves_out():
    reading = SMALL.read("The zebra! A dog runs, the Zebra runs", longest=3)
    assert reading.words == ("the", "dog", "runs")
    assert reading.ids == (0, 1, 3)
    assert reading.unknown == ("zebra", "a")
    assert reading.cut == 2
    assert SMALL.read("").words == ()


def test_neighbours_and_analogies_by_hand():
    near = SMALL.near(SMALL.vectors[1], 2, without=("dog",))
    assert [n.word for n in near] == ["the", "cat"]  # by cosine: length does not count
    assert near[1].cosine == pytest.approx(0.8)
    total = SMALL.analogy("dog", "cat", "runs")
    torch.testing.assert_close(total, torch.tensor([0.8 - 1 + 0, 0.6 - 0 + 1]))
    assert SMALL.rank("runs", total) == 1
    assert SMALL.rank("cat", total) == 2
    assert SMALL.rank("cat", total, without=("dog", "runs")) == 1
    assert not SMALL.cosines(torch.zeros(2)).any()
    with pytest.raises(KeyError):
        SMALL.analogy("dog", "zebra", "cat")


def test_what_is_shipped_reaches_its_card(shipped: WordVectors):
    facts, card = shipped.facts, (ASSETS / NAME / "card.md").read_text(encoding="utf-8")
    assert len(shipped.words) == facts["words"] == len(set(shipped.words))
    for a, b, c, d, rank in facts["analogies"]:
        assert shipped.rank(d, shipped.analogy(a, b, c), without=(a, b, c)) == rank
        assert f"| {a} | {b} | {c} | {d} | {rank:,} |" in card
    assert sum(rank == 1 for *_, rank in facts["analogies"]) >= 5
    assert skipgram.card_of(facts, shipped) == card


def test_damaged_word_vectors_name_themselves(tmp_path: Path):
    folder = tmp_path / NAME
    shutil.copytree(ASSETS / NAME, folder)
    (folder / "words.txt").write_text("one two three\n")
    with pytest.raises(DamagedModel, match=r"word2vec/words.txt does not list"):
        load_words(folder)
    (folder / "words.txt").unlink()
    with pytest.raises(DamagedModel, match=r"words.txt is missing"):
        load_words(folder)
    (folder / "model.safetensors").write_bytes(b"no")
    with pytest.raises(DamagedModel, match="is damaged"):
        load_words(folder)


# ---- skip-gram


def test_skip_gram_loss_by_double_loop():
    random = torch.Generator().manual_seed(0)
    centre, context = (torch.randn(6, 4, generator=random, dtype=torch.float64) for _ in range(2))
    noise = torch.randn(5, 4, generator=random, dtype=torch.float64)
    total = 0.0
    for v, u in zip(centre.tolist(), context.tolist(), strict=True):
        total += math.log(1 + math.exp(-sum(a * b for a, b in zip(v, u, strict=True))))
        for n in noise.tolist():
            total += 8 / 5 * math.log(1 + math.exp(sum(a * b for a, b in zip(v, n, strict=True))))
    assert float(skipgram.loss_of(centre, context, noise, 8)) == pytest.approx(total / 6)


def test_pairs_stay_within_a_text_and_go_both_ways():
    text, place = np.array([1, 2, 3, 4, 5]), np.array([0, 0, 0, 1, 1])
    pairs = skipgram.pairs_of(text, place, 1, np.random.default_rng(0))  # distance 1 of a window of 1: always
    assert sorted(map(tuple, pairs.tolist())) == [(1, 2), (2, 1), (2, 3), (3, 2), (4, 5), (5, 4)]
    many = np.concatenate([skipgram.pairs_of(text, 0 * place, 4, np.random.default_rng(i)) for i in range(2000)])
    share = np.bincount(np.abs(many[:, 0] - many[:, 1]), minlength=5)[1:] / (2 * 2000 * np.array([4, 3, 2, 1]))
    np.testing.assert_allclose(share, [1, 0.75, 0.5, 0.25], atol=0.03)


def test_frequent_words_are_thinned_out():
    keep = skipgram.keep_probability(np.array([9900, 90, 10]), 1e-2)
    np.testing.assert_allclose(keep, [math.sqrt(1e-2 / 0.99), 1, 1])


def test_levelled_vectors_share_no_mean_and_no_main_direction():
    torch.manual_seed(0)
    common, counts = torch.randn(2, 16), np.arange(1, 201)
    own = torch.randn(200, 16) * 0.2
    vectors = own + 3 * common[0] + torch.randn(200, 1) * 2 * common[1]
    found = skipgram.remove_common_directions(vectors, counts, top=1)
    assert found.mean(0).abs().max() < 1e-5
    units = [torch.nn.functional.normalize(table, dim=-1) for table in (vectors, found)]
    before, after = ((unit @ unit.T).abs().mean() for unit in units)
    assert before > 0.7
    assert after < 0.4
    share = torch.from_numpy(counts / counts.sum()).float()
    assert float((found.norm(dim=-1) * share).sum()) == pytest.approx(1, abs=1e-5)


def test_vectors_of_words_in_like_company_become_alike():
    random = np.random.default_rng(0)
    texts = [random.choice([0, 1, 2, 3] if i % 2 else [4, 5, 6, 7], 8).astype(np.int32) for i in range(600)]
    counts = np.bincount(np.concatenate(texts), minlength=8)
    recipe = skipgram.SkipGram(
        width=8, epochs=6, shared_negatives=16, subsample_threshold=1, batch=256, learning_rate=0.02
    )
    seen: list[skipgram.TextProgress] = []
    vectors, contexts, _ = skipgram.train_vectors(texts, counts, recipe, torch.device("cpu"), seen.append)
    units = torch.nn.functional.normalize(vectors, dim=-1)
    alike = units @ units.T
    assert alike[:4, :4].min() > alike[:4, 4:].max()
    assert seen[-1].loss < seen[0].loss
    right, pairs = skipgram.ranking_accuracy(vectors, contexts, texts, counts, recipe)
    assert right > 0.7
    assert pairs > 1000
    again = skipgram.train_vectors(texts, counts, recipe, torch.device("cpu"))[0]
    assert torch.equal(vectors, again)


# ---- the text it is learned from


@pytest.fixture
def text_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny corpus in the folder of training data."""
    folder = tmp_path / "text"
    folder.mkdir()
    files = {
        "lm_stories_train.txt.gz": "The dog runs. The cat runs too!\n<|end|>\n\nA dog.\n",
        "lm_stories_val.txt.gz": "The cat sleeps.\n<|end|>\n",
        "captions_en.txt.gz": "".join(f"Dog number {i}\n" for i in range(100)),
        "tatoeba_en_fr.tsv.gz": "split\ten\tfr\ntrain\tGo.\tVa !\ntest\tNever.\tJamais.\n",
    }
    for name, content in files.items():
        with gzip.open(folder / name, "wt", encoding="utf-8") as file:
            file.write(content)
    monkeypatch.setenv("ATTNVIZ_DATA", str(tmp_path))
    return folder


def test_held_out_text_is_no_training_text(text_folder: Path):
    train, held = set(corpus.lines("train")), set(corpus.lines("val"))
    assert not train & held
    assert held == {"The cat sleeps.", "Dog number 0", "Dog number 50", "Go."}
    assert "<|end|>" not in train
    assert "Never." not in train | held  # test pairs are nobody's


def test_copies_of_held_out_text_are_not_trained_on(text_folder: Path):
    """A sentence with several translations has as many rows; the row that is held out takes the others with it."""
    rows = ["Stop.", "Stop.", "Wait.", "Stop.", "Dog number 50"]  # the first is row 100 of captions and sentences
    with gzip.open(text_folder / "tatoeba_en_fr.tsv.gz", "wt", encoding="utf-8") as file:
        file.write("split\ten\tfr\n" + "".join(f"train\t{row}\t{i}\n" for i, row in enumerate(rows)))
    train, held = list(corpus.lines("train")), list(corpus.lines("val"))
    assert held == ["The cat sleeps.", "Dog number 0", "Dog number 50", "Stop."]
    assert [line for line in train if line in ("Stop.", "Wait.", "Dog number 50")] == ["Wait."]


@pytest.mark.data
def test_nothing_that_is_held_out_is_trained_on():
    held = set(itertools.islice(corpus.lines("val"), len([*corpus.story_paragraphs("val")]), None))
    train = itertools.islice(corpus.lines("train"), len([*corpus.story_paragraphs("train")]), None)
    assert len(held) > 6000
    assert not held.intersection(train)


def test_vocabulary_and_numbers(text_folder: Path):
    found = corpus.texts("train")
    words, counts = corpus.vocabulary(found, min_count=2)
    assert words[:2] == ["dog", "number"]
    assert counts[0] == 100
    assert "number" in words
    rare = corpus.vocabulary([["a", "b", "a", "b", "b", "c"]], min_count=2)
    assert (rare[0], rare[1].tolist()) == (["b", "a"], [3, 2])
    card = (ASSETS / NAME / "card.md").read_text(encoding="utf-8")
    assert f"fewer than {corpus.MIN_COUNT} times" in card
    assert corpus.encode([["dog", "zebra", "number"]], words)[0].tolist() == [0, 1]


def test_missing_text_is_said(text_folder: Path):
    (text_folder / "captions_en.txt.gz").unlink()
    with pytest.raises(NoData, match=r"captions_en.txt.gz is missing"):
        list(corpus.lines("train"))


def test_sentences_are_cut_and_kept_only_if_every_word_is_known(text_folder: Path):
    words = WordVectors(("the", "dog", "cat", "runs", "too"), torch.eye(5))
    found = guess.sentences("train", words, 24)
    assert {length: rows.tolist() for length, rows in found.items()} == {4: [[0, 2, 3, 4]]}
    assert guess.sentences("train", words, 4).keys() == {4}
    assert not guess.sentences("train", words, 3)


# ---- the block


def made(words: int = 12, width: int = 16) -> Guesser:
    """A block over random vectors."""
    torch.manual_seed(0)
    return Guesser(GuessConfig(words=words, width=width, heads=2), torch.randn(words, width) / width**0.5)


def test_a_hidden_word_has_no_influence():
    network = made()
    hidden = torch.tensor([False, False, True, False])
    one, other = (network(torch.tensor([1, 2, x, 4]), hidden).logits["word"] for x in (3, 7))
    assert torch.equal(one, other)
    assert not torch.allclose(one, network(torch.tensor([1, 2, 3, 4])).logits["word"])


def test_alone_a_hidden_word_is_guessed_by_its_place_and_nothing_else():
    network = made()
    found = guesses(network, [1, 2, 3, 4], 2, alone=True)
    assert found == guesses(network, [9, 8, 7, 6], 2, alone=True)
    assert found != guesses(network, [1, 2, 3, 4], 2)
    assert found != guesses(network, [1, 2, 3, 4], 1, alone=True)


def test_batched_equals_unbatched_and_masks_leak_nothing():
    network, ids = made(), torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]])
    together = network(ids).logits["word"]
    torch.testing.assert_close(together[1], network(ids[1]).logits["word"])
    causal = network(ids[0], mask=Mask(causal=True)).logits["word"]
    changed = network(torch.tensor([1, 2, 3, 9]), mask=Mask(causal=True)).logits["word"]
    torch.testing.assert_close(causal[:3], changed[:3])
    assert not torch.allclose(causal[3], changed[3])


def test_content_is_the_row_times_the_root_of_the_width():
    network = made()
    torch.testing.assert_close(network.token_embeddings(torch.tensor([5]))[0], 4 * network.table[5])
    trace = network(torch.tensor([5, 6]), labels=("a", "b"))
    torch.testing.assert_close(
        trace.residuals["main"][0], network.token_embeddings(torch.tensor([5, 6])) + network.positions[:2]
    )
    assert trace.calls[0].queries.labels == ("a", "b")
    assert trace.pooling["main"].tolist() == [0.5, 0.5]
    last = trace.residuals["main"][-1]
    wanted = network.back(network.norm(last)) @ network.table.T * 4 + network.bias
    torch.testing.assert_close(trace.logits["word"], wanted)


def test_guesses_are_the_likeliest_words_with_their_probabilities():
    network, ids = made(), [1, 2, 3, 4]
    shares = network(torch.tensor(ids), torch.arange(4) == 2).logits["word"][2].softmax(-1)
    found = guesses(network, ids, 2)
    assert [word for word, _ in found] == shares.argsort(descending=True)[:5].tolist()
    assert [share for _, share in found] == pytest.approx(sorted(shares.tolist(), reverse=True)[:5])


def test_the_vector_of_a_hidden_word_starts_as_long_as_those_of_words():
    torch.manual_seed(0)
    network = Guesser(GuessConfig(words=3, width=400, heads=2), torch.randn(3, 400))
    assert float(network.hidden.detach().norm()) == pytest.approx(1, abs=0.15)


def test_it_learns_what_stands_beside_what_and_survives_the_disk(tmp_path: Path):
    words = WordVectors(tuple("abcdefgh"), torch.nn.functional.normalize(torch.randn(8, 16), dim=-1), "x")
    rows = np.array([[i, (i + 1) % 8, i, (i + 1) % 8] for i in range(8)], dtype=np.int32)
    network, _ = guess.train_guesser(
        words, {4: rows}, guess.GuessRecipe(steps=300, batch=32, learning_rate=5e-3), torch.device("cpu")
    )
    assert guesses(network, [3, 4, 3, 0], 3, count=1)[0][0] == 4
    facts = guess.evaluate(network, {4: rows})
    assert facts["held_out"] == 8
    assert facts["top1"] > 80
    save_guesser(network, "x", tmp_path / "one-block", "card", facts)
    again, read = load_guesser(words, tmp_path / "one-block")
    assert read == facts
    assert guesses(again, [3, 4, 3, 0], 3, count=1)[0][0] == 4
    with pytest.raises(DamagedModel, match="belongs to other word vectors"):
        load_guesser(WordVectors(words.words, words.vectors, "y"), tmp_path / "one-block")
    config = json.loads((tmp_path / "one-block" / "config.json").read_text())
    (tmp_path / "one-block" / "config.json").write_text(json.dumps(config | {"network": {"words": 8, "width": 16}}))
    load_guesser(words, tmp_path / "one-block")  # what is left out has its default
    (tmp_path / "one-block" / "config.json").write_text(json.dumps(config | {"network": {"words": 9, "width": 16}}))
    with pytest.raises(DamagedModel, match="does not describe"):
        load_guesser(words, tmp_path / "one-block")


def test_the_shipped_block_says_what_its_card_says(shipped: WordVectors):
    network, facts = load_guesser(shipped)
    card = (ASSETS / "one-block" / "card.md").read_text(encoding="utf-8")
    assert f"| top-1 | {facts['top1']} % |" in card
    assert guess.card_of(facts, network.config) == card
    assert network.config == GuessConfig(words=len(shipped.words)), "it has the shape a block has by itself"
    assert facts["top1"] > 2 * facts["most_frequent"]


@pytest.mark.data
def test_the_shipped_block_reaches_its_card(shipped: WordVectors):
    network, facts = load_guesser(shipped)
    found = guess.evaluate(network, guess.sentences("val", shipped, network.config.context_length))
    assert found["held_out"] == facts["held_out"]
    assert found["top1"] == pytest.approx(facts["top1"], abs=0.05)
    assert found["top5"] == pytest.approx(facts["top5"], abs=0.05)
