"""How well a network translates sentences it has not seen: perplexity, BLEU, chrF, and how often it is word for word.

A sentence that has several translations counts once and is compared with all of them. BLEU (Papineni et al. 2002) and
chrF (Popović 2015) are computed by sacreBLEU (Post 2018), so that they can be compared with others'.
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
from attnviz.training.text.loop import chunks, kept_or_none, padded

BEAM = 4
DECODINGS = {"greedy": 1, f"beam {BEAM}": BEAM}
Pair = tuple[str, str]


def scorer() -> Any:
    """The library that scores translations. Raises NoData where it is not installed."""
    try:
        import sacrebleu
    except ImportError as error:
        raise NoData("Translations are tested with sacrebleu: pip install -r requirements-dev.txt") from error
    return sacrebleu


def grouped(pairs: Iterable[Pair]) -> dict[str, list[str]]:
    """Every English sentence with all its translations."""
    found: dict[str, list[str]] = {}
    for english, french in pairs:
        found.setdefault(english, []).append(french)
    return found


def measured(model: TranslationModel) -> dict[str, Any]:
    """Loss and perplexity on held-out pairs, and every test with every way of decoding."""
    held = [*corpus.translations("val")]
    loss = held_out_loss(model, held)
    sets = {
        "Tatoeba test": grouped(corpus.translations("test")),
        "Multi30k test captions": grouped(corpus.captions_translated("test")),
    }
    tests = [
        {"name": name, "decoding": how, **scores(translated(model, [*pairs], width), [*pairs.values()])}
        for name, pairs in sets.items()
        for how, width in DECODINGS.items()
    ]
    return {"held_out": len(held), "loss": round(loss, 3), "perplexity": round(math.exp(loss), 2), "tests": tests}


def translated(model: TranslationModel, english: Sequence[str], width: int) -> list[str]:
    """The best translation of each sentence."""
    return [model.text(beams[0].ids) for beams in model.batch([model.prepare(text) for text in english], width)]


def scores(written: Sequence[str], wanted: Sequence[Sequence[str]]) -> dict[str, Any]:
    """BLEU, chrF and exact matches of translations against one or more of a human's."""
    library = scorer()
    columns = [list(column) for column in zip_longest(*wanted)]  # sacreBLEU wants the first of each, then the second
    bleu = library.metrics.BLEU()
    found = bleu.corpus_score(list(written), columns)
    exact = sum(text in translations for text, translations in zip(written, wanted, strict=True))
    return {
        "bleu": round(found.score, 2),
        "chrf": round(library.corpus_chrf(list(written), columns).score, 2),
        "exact": round(100 * exact / max(1, len(written)), 1),
        "sentences": len(written),
        "references": sum(map(len, wanted)),
        "signature": str(bleu.get_signature()),
    }


@torch.no_grad()
def held_out_loss(model: TranslationModel, pairs: Sequence[Pair]) -> float:
    """Mean loss of the next piece, EOS included; no smoothing, so its exponential is the perplexity."""
    total, count = 0.0, 0
    room = model.config.context_length
    for part in chunks(sorted(pairs, key=lambda pair: len(pair[0])), 64):
        english, french = (model.tokenizer.batch(side) for side in zip(*part, strict=True))
        source, keep = padded([[*ids[: room - 1], EOS] for ids in english], model.device)
        target, said = padded([[BOS, *ids[: room - 1], EOS] for ids in french], model.device)
        trace = model.network(source, target[:, :-1], keep_tokens=kept_or_none(keep), read=False)
        logits, wanted = (
            model.network.logits_from(trace.residuals["target"][-1][said[:, 1:]]),
            target[:, 1:][said[:, 1:]],
        )
        total += float(F.cross_entropy(logits.float(), wanted, reduction="sum"))
        count += len(wanted)
    return total / count
