"""Evaluation of translation on held-out sentences: perplexity, BLEU, chrF, and exact matches.

A sentence with several translations counts once and is compared with all of them. BLEU (Papineni et al. 2002) and chrF
(Popović 2015) are computed by sacreBLEU (Post 2018), so that they can be compared with published results.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Any

import torch
import torch.nn.functional as F

from attnviz.models.subwords import BOS, EOS
from attnviz.models.translation import TranslationModel
from attnviz.training.images.data import NoData
from attnviz.training.text import corpus
from attnviz.training.text.loop import chunks, pad, without_padding

BEAM = 4
DECODINGS = {"greedy": 1, f"beam {BEAM}": BEAM}
Pair = tuple[str, str]


def scorer() -> Any:
    """The sacreBLEU library. Raises NoData where it is not installed."""
    try:
        import sacrebleu
    except ImportError as error:
        raise NoData("Translations are evaluated with sacrebleu: pip install -r requirements-dev.txt") from error
    return sacrebleu


def group_references(pairs: Iterable[Pair]) -> dict[str, list[str]]:
    """All reference translations of each English sentence."""
    references: dict[str, list[str]] = {}
    for english, french in pairs:
        references.setdefault(english, []).append(french)
    return references


def evaluate(model: TranslationModel) -> dict[str, Any]:
    """Loss and perplexity on held-out pairs, and every test set with every decoding."""
    held = [*corpus.translations("val")]
    loss = held_out_loss(model, held)
    sets = {
        "Tatoeba test": group_references(corpus.translations("test")),
        "Multi30k test captions": group_references(corpus.captions_translated("test")),
    }
    tests = [
        {"name": name, "decoding": decoding, **score(translate_all(model, [*pairs], width), [*pairs.values()])}
        for name, pairs in sets.items()
        for decoding, width in DECODINGS.items()
    ]
    return {"held_out": len(held), "loss": round(loss, 3), "perplexity": round(math.exp(loss), 2), "tests": tests}


def translate_all(model: TranslationModel, english: Sequence[str], width: int) -> list[str]:
    """The best translation of each sentence."""
    return [model.text(beams[0].ids) for beams in model.batch([model.prepare(text) for text in english], width)]


def score(translations: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, Any]:
    """BLEU, chrF and exact matches of translations against one or more references each."""
    library = scorer()
    columns = [
        list(column) for column in zip_longest(*references)
    ]  # sacreBLEU takes the first reference of all, then the second
    bleu = library.metrics.BLEU()
    result = bleu.corpus_score(list(translations), columns)
    exact = sum(text in accepted for text, accepted in zip(translations, references, strict=True))
    return {
        "bleu": round(result.score, 2),
        "chrf": round(library.corpus_chrf(list(translations), columns).score, 2),
        "exact": round(100 * exact / max(1, len(translations)), 1),
        "sentences": len(translations),
        "references": sum(map(len, references)),
        "signature": str(bleu.get_signature()),
    }


@torch.no_grad()
def held_out_loss(model: TranslationModel, pairs: Sequence[Pair]) -> float:
    """Mean loss of the next token, EOS included, without label smoothing: its exponential is the perplexity."""
    total, count = 0.0, 0
    limit = model.config.context_length
    for part in chunks(sorted(pairs, key=lambda pair: len(pair[0])), 64):
        english, french = (model.tokenizer.batch(side) for side in zip(*part, strict=True))
        source, keep = pad([[*ids[: limit - 1], EOS] for ids in english], model.device)
        target, target_keep = pad([[BOS, *ids[: limit - 1], EOS] for ids in french], model.device)
        trace = model.network(source, target[:, :-1], edit=without_padding(keep), read=False)
        keep_next, next_ids = target_keep[:, 1:], target[:, 1:]
        logits = model.network.logits_from(trace.residuals["target"][-1][keep_next])
        total += float(F.cross_entropy(logits.float(), next_ids[keep_next], reduction="sum"))
        count += int(keep_next.sum())
    return total / count
