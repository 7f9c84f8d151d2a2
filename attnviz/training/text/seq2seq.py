"""`python -m attnviz.training seq2seq`: a recurrent network with additive attention learns to translate.

It has the data and the loss of the transformer; all its parameters are trained by AdamW.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from attnviz.models.seq2seq import Seq2Seq, Seq2SeqConfig
from attnviz.training.text.loop import TextRecipe
from attnviz.training.text.skipgram import TextProgress
from attnviz.training.text.translate import Size, run_pairs

SIZES = {
    "cpu": Size(
        partial(Seq2Seq, Seq2SeqConfig()), TextRecipe(steps=2200, batch=4096, learning_rate=2e-3, ema_decay=0.997)
    ),
    "gpu": Size(
        partial(Seq2Seq, Seq2SeqConfig(width=512, hidden=1024, compared=512)),
        TextRecipe(steps=12_000, batch=25_000, learning_rate=5e-4, ema_decay=0.999),
    ),
}


def run_seq2seq(
    folder: Path,
    device: torch.device,
    report: Callable[[TextProgress], None],
    checkpoint: Path | None = None,
    size: str = "cpu",
    **changes: int,
) -> str:
    """Train, evaluate on held-out sentences, write weights and card; `changes` override the recipe. Raises NoData."""
    title = "English to French: recurrent, with additive attention"
    return run_pairs("seq2seq", title, SIZES[size].with_changes(size, changes), folder, device, report, checkpoint)
