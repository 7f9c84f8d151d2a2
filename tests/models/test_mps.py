"""Apple's graphics cards (mps) hold no float64: what is computed so is brought to main memory first."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from attnviz.models.generate import next_token_probabilities
from attnviz.models.subwords import load_subwords
from attnviz.models.text import Reader, ReaderConfig
from attnviz.models.text_model import TAGS
from attnviz.training.text import blimp, corpus, sentences
from attnviz.training.text.loop import TextRecipe

SHAPE = ReaderConfig(
    width=16,
    layers=1,
    heads=2,
    positions="learned1d",
    context_length=24,
    prefix=1,
    outputs={"sentiment": 2, "tag": len(TAGS)},
)


class There(Tensor):
    """A tensor that stands for one on such a card."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.double:
            raise TypeError(
                "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64."
            )
        found = super().__torch_function__(func, types, args, kwargs or {})
        return found.as_subclass(Tensor) if func is Tensor.cpu else found


def test_the_stand_in_refuses():
    with pytest.raises(TypeError, match="float64"):
        torch.ones(2).as_subclass(There)[:1].double()
    assert torch.ones(2).as_subclass(There).cpu().double().dtype == torch.float64


def test_what_is_expected_next():
    scores = torch.randn(30, generator=torch.Generator().manual_seed(0))
    found = next_token_probabilities(scores.as_subclass(There))
    assert found.dtype == torch.float64
    assert torch.equal(found, next_token_probabilities(scores))


def test_sentences_and_stories_are_judged(monkeypatch: pytest.MonkeyPatch):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = (
            Reader(ReaderConfig(width=16, layers=1, heads=2, context_length=24, causal=True))
            .eval()
            .requires_grad_(False)
        )
    subwords, texts = load_subwords(), ["The dog runs.", "A small dog.", "Go."]
    scores, facts = blimp.sentence_scores(network, subwords, texts), blimp.perplexity(network, subwords, [texts])
    judged = blimp.log_probabilities
    monkeypatch.setattr(blimp, "log_probabilities", lambda *given: judged(*given).as_subclass(There))
    assert np.array_equal(blimp.sentence_scores(network, subwords, texts), scores)
    assert blimp.perplexity(network, subwords, [texts]) == facts


def test_no_float64_is_moved_while_the_encoder_learns(monkeypatch: pytest.MonkeyPatch):
    words = (corpus.Word(0, 3, "PRON", 1), corpus.Word(4, 8, "VERB", -1), corpus.Word(8, 9, "PUNCT", 1))
    monkeypatch.setattr(corpus, "reviews", lambda split: iter([(0, "a dull film ."), (4, "a great film .")] * 4))
    monkeypatch.setattr(corpus, "treebank", lambda split: iter([corpus.Sentence("She runs.", words)] * 4))
    monkeypatch.setattr(sentences, "pretraining_texts", lambda *_: [np.arange(100, 112, dtype=np.int16)] * 8)
    plan, recipe = sentences.Plan(syntax_head=(0, 1), max_tokens=20), TextRecipe(steps=2, batch=100)
    tasks = sentences.Tasks(plan, recipe, load_subwords(), torch.device("cpu"))
    network, moved, to = Reader(SHAPE), set(), Tensor.to

    def watched(tensor: Tensor, *where: Any, **how: Any) -> Tensor:
        if where and isinstance(where[0], torch.device):
            moved.add(tensor.dtype)
        return to(tensor, *where, **how)

    monkeypatch.setattr(Tensor, "to", watched)
    for ask in (tasks.masked_loss, tasks.sentiment_loss, tasks.parsing_loss):
        assert ask(network, np.random.default_rng(0)).isfinite()
    assert torch.bool in moved
    assert torch.float64 not in moved
