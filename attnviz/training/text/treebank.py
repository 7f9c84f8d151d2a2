"""`python -m attnviz.training treebank`: the treebank sentences that the app scores attention heads against."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from attnviz.models.files import ASSETS
from attnviz.training.text import corpus
from attnviz.training.text.skipgram import TextProgress

COUNT, MIN_WORDS, MAX_WORDS = 60, 6, 14  # sentences, and words in each
FOLDER, FILE = ASSETS.parent / "samples", "treebank.json"


def run_treebank(folder: Path, device: torch.device, report: Callable[[TextProgress], None]) -> str:
    """Sample held-out sentences and write them with parts of speech and dependency heads. Raises NoData."""
    candidates = [s for s in corpus.treebank("test") if MIN_WORDS <= len(s.words) <= MAX_WORDS and is_plain(s)]
    chosen = np.random.default_rng(0).choice(len(candidates), COUNT, replace=False)
    rows = [{"text": candidates[i].text, "words": [list(word) for word in candidates[i].words]} for i in sorted(chosen)]
    path = folder / FILE
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows, ensure_ascii=False, indent=None, separators=(",", ":")) + "\n", encoding="utf-8")
    return f"{len(rows)} sentences of {sum(len(row['words']) for row in rows)} words in {path.name}\n"


def is_plain(sentence: corpus.Sentence) -> bool:
    """Whether a sentence begins with a capital, ends with a full stop, and contains no address."""
    text = sentence.text
    return text[:1].isupper() and text[-1:] in ".?!" and not any(sign in text for sign in "@/<>|_")
