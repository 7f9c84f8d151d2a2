"""A bench of untrained networks with made-up results, for tests of the Compare page; nothing of it is shipped."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from attnviz.attention import VARIANTS
from attnviz.models import ImageModel, Preparation, ViT, save
from attnviz.models.store import RESULTS
from attnviz.models.text import Reader
from attnviz.training.images.bench import EQUAL, SAME, SHAPE

PIXELS = Preparation(64, (0.45, 0.44, 0.41), (0.27, 0.26, 0.28))


def write(folder: Path, names: Sequence[str] = tuple(VARIANTS), seeds: Sequence[int] = (0,)) -> Path:
    """Networks as they start, in half precision, beside a table that claims to have tested them."""
    rows = [entry(folder, name, seed, SAME, place) for seed in seeds for place, name in enumerate(names)]
    rows += [entry(folder, name, 0, EQUAL, 0) for name in names if name == "mqa"]
    (folder / RESULTS).write_text(json.dumps(rows))
    return folder


def sharpen(network: ViT | Reader) -> None:
    """Make rows uneven: as networks start, all are nearly even and there is little to see."""
    for block in network.blocks:
        for name in ("query", "key"):
            if hasattr(block.attention, name):
                getattr(block.attention, name).weight.data *= 3


def entry(folder: Path, variant: str, seed: int, run: str, place: int) -> dict:
    """One network on disk and its row in the table."""
    config = replace(SHAPE, variant=variant, mlp=4.2 if run == EQUAL else SHAPE.mlp)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(100 * seed + place)
        network = ViT(config)
    sharpen(network)
    name = variant + ("-equal" if run == EQUAL else "") + (f"-seed{seed}" if seed else "")
    classes = [f"thing {i}" for i in range(config.classes)]
    model = ImageModel(name, network, PIXELS, classes, ["things"] * len(classes), title=VARIANTS[variant].title)
    top1 = 40.0 - place + seed / 2
    row = {
        "name": name,
        "variant": variant,
        "run": run,
        "parameters": sum(p.numel() for p in network.parameters()),
        "steps": 1000,
        "batch": 256,
        "seed": seed,
        "device": "made up",
        "threads": 1,
        "held_out": 1000,
        "top1": top1,
        "top5": top1 + 20,
        "interval": [top1 - 3, top1 + 3],
    }
    save(model, folder / name, f"# {name}\n", row)
    return row
