"""Soft labels: what a shipped model answers to every training picture (Hinton et al. 2015, arXiv 1503.02531).

A pass of the teacher costs several times a step of a network of the bench, so it reads every picture once, before it is
augmented, and only a random half of its patches, which it was trained to do without. Answers are kept in parts, so
that an interrupted computation goes on where it was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from attnviz.models import load_image
from attnviz.training.checkpoint import fingerprint
from attnviz.training.images.data import Pictures
from attnviz.training.images.evaluate import predict_logits

PART = 2048  # pictures in one file: a few minutes at most
BATCH = 64


def with_soft_labels(
    pictures: Pictures, teacher: str, folder: Path, device: torch.device, report: Callable[[int, int], None]
) -> Pictures:
    """The pictures with the teacher's logits, computed where `folder` does not hold them yet.

    `report` is told how many of how many pictures are done. Raises ValueError for a teacher of other classes.
    """
    model = load_image(teacher).to(device)
    if model.classes != pictures.classes:
        raise ValueError(f"{teacher} names other classes than {pictures.source}")
    visible = (model.config.size // model.config.patch) ** 2 // 2
    made_of = fingerprint(model.digest, visible, PART, BATCH, hashlib.sha256(pictures.images.tobytes()).hexdigest())
    parts = list[np.ndarray]()
    for start in range(0, len(pictures), PART):
        path, end = folder / made_of[:12] / f"{start}.npy", min(start + PART, len(pictures))
        if not path.is_file():
            batches = [(first, min(BATCH, end - first)) for first in range(start, end, BATCH)]
            logits = [predict_logits(model, pictures, first, count, visible) for first, count in batches]
            write(path, torch.cat(logits).half().numpy())
            report(end, len(pictures))
        parts.append(np.load(path))
    return replace(pictures, teacher_logits=np.concatenate(parts))


def write(path: Path, logits: Float[np.ndarray, "picture class"]) -> None:
    """Write one part; a temporary file becomes it, so it is never incomplete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".part").open("wb") as file:
        np.save(file, logits)
    path.with_suffix(".part").replace(path)
