"""How word vectors and the block over them learn: what is drawn how often, rates, and figures counted by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from attnviz.models.guess import GuessConfig, Guesser
from attnviz.models.words import WordVectors, load_words
from attnviz.training.text import guess, skipgram

SMALL = WordVectors(("the", "dog", "cat", "runs"), torch.tensor([[0.1, 0], [1, 0], [0.8, 0.6], [0, 2.0]]))


def test_common_directions_are_removed_and_analogies_exclude_their_words():
    torch.manual_seed(0)
    shared = torch.linalg.qr(torch.randn(16, 2))[0].T
    vectors = 0.1 * torch.randn(100, 16) + torch.randn(100, 1) * 9 * shared[0] + torch.randn(100, 1) * 5 * shared[1]
    found = skipgram.remove_common_directions(vectors, np.ones(100, dtype=np.int64))
    assert (found @ shared.T).abs().max() < 0.1 * found.abs().max()
    total = SMALL.analogy("dog", "cat", "the")
    assert skipgram.rank_of(SMALL, "dog", "cat", "the", "runs") == SMALL.rank("runs", total, ("dog", "cat", "the")) == 1


def test_ranking_accuracy_of_equal_scores_is_one_half():
    recipe, counts = skipgram.SkipGram(subsample_threshold=1), np.array([50, 30, 20])
    texts = [np.array([0, 1, 2, 0], dtype=np.int32)] * 9
    right, pairs = skipgram.ranking_accuracy(torch.zeros(3, 4), torch.zeros(3, 4), texts, counts, recipe)
    assert right == 0.5
    assert pairs > 50


def test_negatives_are_sampled_by_count_to_the_power_of_three_quarters(monkeypatch: pytest.MonkeyPatch):
    counts, shares, drawn = np.array([810, 160, 10]), list[np.ndarray](), torch.multinomial
    texts = [np.array([0, 1, 0, 2], dtype=np.int32)] * 4

    def looked_at(weights: torch.Tensor, count: int, replacement: bool) -> torch.Tensor:
        shares.append(weights.numpy())
        return drawn(weights, count, replacement=replacement)

    class Dice(np.random.Generator):
        def __init__(self, seed: int):
            super().__init__(np.random.PCG64(seed))

        def choice(self, count: int, size: int, p: np.ndarray) -> np.ndarray:
            shares.append(p)
            return super().choice(count, size, p=p)

    monkeypatch.setattr(torch, "multinomial", looked_at)
    recipe = skipgram.SkipGram(width=4, epochs=1, shared_negatives=4, subsample_threshold=1, batch=8)
    vectors, contexts, _ = skipgram.train_vectors(texts, counts, recipe, torch.device("cpu"))
    monkeypatch.setattr(np.random, "default_rng", Dice)
    skipgram.ranking_accuracy(vectors, contexts, texts, counts, recipe)
    assert len(shares) > 1
    for share in shares:
        np.testing.assert_allclose(share / share.sum(), counts**0.75 / (counts**0.75).sum())


def test_the_learning_rate_decays_to_a_twentieth_and_losses_are_means(monkeypatch: pytest.MonkeyPatch):
    rates, step, reported = list[float](), torch.optim.SparseAdam.step, list[skipgram.TextProgress]()

    def looked_at(optimiser: torch.optim.SparseAdam) -> None:
        rates.append(optimiser.param_groups[0]["lr"])
        step(optimiser)

    pairs = np.array([[0, 1], [1, 0]])
    shares = [*np.linspace(0, 1, 200, endpoint=False)]
    monkeypatch.setattr(skipgram, "batches", lambda *_: iter([(pairs, share) for share in shares]))
    monkeypatch.setattr(torch.optim.SparseAdam, "step", looked_at)
    recipe = skipgram.SkipGram(width=4, learning_rate=0.02, shared_negatives=2)
    skipgram.train_vectors([], np.array([5, 5]), recipe, torch.device("cpu"), reported.append)
    assert rates == pytest.approx([0.02 * max(0.05, 1 - share) for share in shares])
    assert [progress.share for progress in reported] == [shares[99], shares[199]]
    assert 3 < reported[0].loss < 9 * math.log(2) + 0.5, "eight negatives and one that is true, none told apart yet"


def test_the_defaults_of_skip_gram():
    facts = load_words().facts
    recipe = skipgram.SkipGram()
    assert (
        recipe.negatives,
        recipe.shared_negatives,
        recipe.subsample_threshold,
        recipe.batch,
        recipe.learning_rate,
    ) == (8, 128, 1e-4, 8192, 3e-3)
    assert (recipe.width, recipe.epochs, recipe.window) == (facts["width"], facts["epochs"], facts["window"])
    torch.manual_seed(0)
    still = skipgram.SkipGram(width=64, learning_rate=1e-12, epochs=1, shared_negatives=2)
    text = [np.arange(300, dtype=np.int32)]
    vectors, contexts, _ = skipgram.train_vectors(text, np.ones(300, dtype=np.int64), still, torch.device("cpu"))
    assert float(vectors.std()) == pytest.approx(0.5 / 8, rel=0.05)
    assert contexts.abs().max() < 1e-9


def test_at_least_one_word_of_every_sentence_is_masked():
    torch.manual_seed(0)
    hidden = guess.mask_some(torch.zeros(4000, 5, dtype=torch.long), 0.2)
    assert hidden.any(-1).all()
    assert hidden.double().mean().item() == pytest.approx(0.2 + 0.8 / 5, abs=0.01)
    assert guess.mask_some(torch.zeros(500, 5, dtype=torch.long), 0.0).sum(-1).tolist() == [1] * 500
    assert guess.GuessRecipe().mask_share == 0.2


def test_lengths_are_drawn_in_proportion_to_their_words():
    texts = {4: np.zeros((30, 4), dtype=np.int32), 12: np.zeros((10, 12), dtype=np.int32)}
    recipe = guess.GuessRecipe(batch=2)
    drawn = [batch.shape[1] for batch in itertools.islice(guess.batches(texts, recipe, np.random.default_rng(0)), 600)]
    assert drawn.count(4) / 600 == pytest.approx(0.5, abs=0.07)  # 120 words of each


def test_the_learning_rate_of_the_block_warms_up_and_decays(monkeypatch: pytest.MonkeyPatch):
    rates, reported, step = list[float](), list[skipgram.TextProgress](), torch.optim.AdamW.step

    def looked_at(optimiser: torch.optim.AdamW) -> None:
        rates.append(optimiser.param_groups[0]["lr"])
        step(optimiser)

    monkeypatch.setattr(torch.optim.AdamW, "step", looked_at)
    words = WordVectors(tuple("abcd"), torch.randn(4, 8), "x")
    rows = {4: np.array([[0, 1, 2, 3]], dtype=np.int32)}
    recipe = guess.GuessRecipe(steps=100, batch=2, learning_rate=1e-3, warmup=0.1)
    guess.train_guesser(words, rows, recipe, torch.device("cpu"), reported.append)
    assert rates[:5] == pytest.approx([1e-4, 2e-4, 3e-4, 4e-4, 5e-4])
    assert rates[49] == pytest.approx(0.5e-3)
    assert rates[-1] == pytest.approx(0)
    assert 0 < reported[0].loss < 3 * math.log(4), "the mean of a hundred steps"


def test_masked_accuracy_by_hand():
    """A block that always says words 3, 4, 1, 0 and 2, in this order, of sentences of one word each."""
    network = Guesser(GuessConfig(words=12, width=16, heads=2), torch.randn(12, 16))
    with torch.no_grad():
        network.back.weight.zero_(), network.back.bias.zero_()
        network.bias[torch.tensor([3, 4, 1, 0, 2])] = torch.tensor([9.0, 8, 7, 6, 5])
    rows = {4: np.array([[3] * 4, [2] * 4, [0] * 4]), 5: np.array([[7] * 5] * 5)}
    assert guess.evaluate(network, rows) == {"held_out": 8, "top1": 12.5, "top5": 37.5, "most_frequent": 12.5}
