"""`python -m attnviz.training text-bench`: every variant that can read a sentence through one recipe, to compare them.

Same texts, steps, optimiser and shape: 3 layers of 4 heads, width 128, 64 pieces at most, answers about the whole text
from the mean of its tokens. Each learns from nothing whether a sentence about a film praises it, and which part of
speech each word is. Nearly all parameters are the table of pieces, so networks differ little in size. What is done is
skipped, so a run that was cut off goes on; results gather in assets/models/text-bench.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from attnviz.attention import VARIANTS
from attnviz.models.files import as_shipped, write_rows
from attnviz.models.store import RESULTS, TEXT_BENCH
from attnviz.models.subwords import SubwordTokenizer, load_subwords
from attnviz.models.text import Reader, ReaderConfig
from attnviz.models.text_model import TAGS, TextModel
from attnviz.training.images.bench import SAME, done_by, written
from attnviz.training.images.loop import hardware
from attnviz.training.text import corpus
from attnviz.training.text.judge import evaluate_questions, evaluate_sentiment
from attnviz.training.text.loop import TextRecipe, trained
from attnviz.training.text.sentences import Plan, Tasks
from attnviz.training.text.skipgram import TextProgress

SHAPE = ReaderConfig(
    width=128,
    layers=3,
    heads=4,
    positions="sine",
    context_length=64,
    pooling="mean",
    word=False,
    outputs={"sentiment": 2, "tag": len(TAGS)},
)
OPTIONS: Mapping[str, Mapping[str, Any]] = {  # where a variant's own default is made for pictures
    "window": {"radius": 3},
    "linformer": {"slots": 16, "shorter": True},
}
PLAN = Plan(alone=0, dropped=0.25, reviews=0.5, treebank=0.5, syntax=None, longest=SHAPE.context_length - 2)
RECIPE = TextRecipe(steps=450, batch=4096, learning_rate=3e-3, ema_decay=0.99)
MOVED = ("nystrom",)  # by padding: its landmarks are means of stretches of a batch's whole length
READ = tuple(name for name, variant in VARIANTS.items() if "grid" not in variant.requirements and name not in MOVED)
Report = Callable[[str, TextProgress], None]


def config_of(variant: str) -> ReaderConfig:
    """The shape of one entry."""
    return replace(SHAPE, variant=variant, options=OPTIONS.get(variant, {}))


def name_of(variant: str, seed: int) -> str:
    """What an entry is called."""
    return variant if seed == 0 else f"{variant}-seed{seed}"


def run_text_bench(
    todo: Sequence[tuple[str, int]],
    device: torch.device,
    report: Report,
    *,
    recipe: TextRecipe = RECIPE,
    folder: Path = TEXT_BENCH,
    checkpoints: Path | None = None,
) -> list[dict[str, Any]]:
    """Train every (variant, seed) that is not there yet, save it, and gather the results, which are returned.

    Raises NoData.
    """
    subwords = load_subwords()
    for variant, seed in todo:
        name, one = name_of(variant, seed), replace(recipe, seed=seed)
        if done_by(one, name, folder):
            continue
        tasks = Tasks(PLAN, one, subwords, device)
        torch.manual_seed(seed)
        checkpoint = checkpoints / name / "checkpoint.pt" if checkpoints else None
        network, seconds = trained(
            Reader(config_of(variant)),
            one,
            tasks.loss,
            device,
            lambda stand, name=name: report(name, stand),
            checkpoint,
            also=PLAN,
        )
        row = {"name": name, "variant": variant, "run": SAME, **facts_of(network, subwords, one, device, seconds)}
        model = TextModel(name, network, subwords, title=VARIANTS[variant].title)
        model.save(folder / name, card(row), row)
        done = written(folder) | {name: row}  # read again: another process may train other variants
        write_rows(folder, RESULTS, list(done.values()))
        if checkpoint:
            checkpoint.unlink(missing_ok=True)  # nothing is left to go on to, and another recipe would stumble over it
    return list(written(folder).values())


def facts_of(
    network: Reader, subwords: SubwordTokenizer, recipe: TextRecipe, device: torch.device, seconds: float
) -> dict[str, Any]:
    """What is known of one trained entry: how often it is right on held-out text, and how it was made."""
    as_shipped(network)
    told = evaluate_sentiment(network, subwords)
    return {
        "parameters": sum(p.numel() for p in network.parameters()),
        "steps": recipe.steps,
        "batch": recipe.batch,
        "seed": recipe.seed,
        "minutes": round(seconds / 60, 1),
        **hardware(device),
        "data": corpus.JUDGED,
        "held_out": told["sst2_held_out"],
        "top1": told["sst2"],
        "interval": told["sst2_interval"],
        **evaluate_questions(network, subwords),
    }


def card(row: Mapping[str, Any]) -> str:
    """A short card: the Compare page shows the table of all."""
    low, high = row["interval"]
    options = "".join(f", {name} {value}" for name, value in config_of(row["variant"]).options.items())
    return "\n".join(
        [
            f"# text-bench/{row['name']}: {VARIANTS[row['variant']].title}",
            "",
            "Printed by `python -m attnviz.training text-bench`.",
            "",
            f"- {SHAPE.layers} layers, {SHAPE.heads} heads, width {SHAPE.width}{options}, "
            f"reads {SHAPE.context_length} pieces: {row['parameters']:,} parameters",
            f"- {row['steps']:,} steps of {row['batch']:,} pieces, seed {row['seed']}, {row['minutes']} minutes on "
            f"{row['device']}, {row['threads']} threads",
            f"- SST-2: {row['top1']} % of {row['held_out']:,} held-out sentences (95 % interval of this one network "
            f"over sentences: {low} to {high} %)",
            f"- part of speech: {row['upos']} % of {row['words_held_out']:,} held-out words",
            f"- data: {row['data']}",
            "",
        ]
    )


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """All entries as Markdown."""
    lines = ["| network | parameters | SST-2 % | 95 % interval | UPOS % | minutes |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {row['name']} | {row['parameters']:,} | {row['top1']} | {row['interval'][0]} to {row['interval'][1]} "
        f"| {row['upos']} | {row['minutes']} |"
        for row in rows
    ]
    return "\n".join([*lines, ""])
