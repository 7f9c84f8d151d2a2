"""A bench of untrained networks that read sentences, with made-up results; nothing of it is shipped."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch

from attnviz.attention import VARIANTS
from attnviz.models.store import RESULTS
from attnviz.models.subwords import load_subwords
from attnviz.models.text import Reader
from attnviz.models.text_model import TextModel
from attnviz.training.images.bench import SAME
from attnviz.training.text.bench import READ, config_of, name_of
from tests.made_up_bench import sharpen

subwords = cache(load_subwords)


def write(folder: Path, names: Sequence[str] = READ, seeds: Sequence[int] = (0,)) -> Path:
    """Networks as they start, in half precision, beside a table that claims to have tested them."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [entry(folder, name, seed, place) for seed in seeds for place, name in enumerate(names)]
    (folder / RESULTS).write_text(json.dumps(rows))
    return folder


def entry(folder: Path, variant: str, seed: int, place: int) -> dict:
    """One network on disk and its row in the table."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(100 * seed + place)
        network = Reader(config_of(variant))
    sharpen(network)
    for output in network.outputs.values():  # as they start, all answers are alike
        output.weight.data *= 10
    name, top1 = name_of(variant, seed), 75.0 - place + seed / 2
    row = {
        "name": name,
        "variant": variant,
        "run": SAME,
        "parameters": sum(p.numel() for p in network.parameters()),
        "steps": 600,
        "batch": 4096,
        "seed": seed,
        "minutes": 1.0,
        "device": "made up",
        "threads": 1,
        "held_out": 1821,
        "top1": top1,
        "interval": [top1 - 2, top1 + 2],
        "upos": 80.0 - place + seed / 2,
        "words_held_out": 25093,
        "data": "made up",
    }
    model = TextModel(name, network, subwords(), title=VARIANTS[variant].title)
    model.save(folder / name, f"# {name}\n", row)
    return row
