"""`python -m attnviz.training text-bench`: every variant that reads sentences, trained by one recipe, to compare them.

Same texts, steps, optimiser and shape: 3 layers of 4 heads, width 128, context length 64 tokens; predictions about the
whole text come from the mean of its tokens. Each network learns from scratch the sentiment of sentences about films,
and the part of speech of each word. Nearly all parameters are token embeddings, so networks differ little in size.
Entries that are there are skipped, so an interrupted run can be repeated; results are collected in
assets/models/text-bench.
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
from attnviz.training.images.bench import SAME, is_done, read_results
from attnviz.training.images.loop import hardware
from attnviz.training.text import corpus
from attnviz.training.text.evaluation import evaluate_sentiment, evaluate_tags
from attnviz.training.text.loop import TextRecipe, train
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
OPTIONS: Mapping[str, Mapping[str, Any]] = {  # where the default of a variant is meant for pictures
    "window": {"radius": 3},
    "sinkwindow": {"radius": 3},
    "linformer": {"slots": 16, "shorter": True},
}
PLAN = Plan(
    pretraining=0,
    input_mask_share=0.25,
    reviews=0.5,
    treebank=0.5,
    syntax_head=None,
    max_tokens=SHAPE.context_length - 2,
)
RECIPE = TextRecipe(steps=450, batch=4096, learning_rate=3e-3, ema_decay=0.99)
PADDING_DEPENDENT = ("nystrom",)  # its landmarks are means over segments of the padded length
READ = tuple(
    name for name, variant in VARIANTS.items() if "grid" not in variant.requirements and name not in PADDING_DEPENDENT
)
Report = Callable[[str, TextProgress], None]


def config_of(variant: str) -> ReaderConfig:
    """The configuration of one entry."""
    return replace(SHAPE, variant=variant, options=OPTIONS.get(variant, {}))


def name_of(variant: str, seed: int) -> str:
    """The name of an entry."""
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
    """Train and save every (variant, seed) that is not there yet; returns the results of all. Raises NoData."""
    subwords = load_subwords()
    for variant, seed in todo:
        name, one = name_of(variant, seed), replace(recipe, seed=seed)
        if is_done(one, name, folder):
            continue
        tasks = Tasks(PLAN, one, subwords, device)
        torch.manual_seed(seed)
        checkpoint = checkpoints / name / "checkpoint.pt" if checkpoints else None
        network, seconds = train(
            Reader(config_of(variant)),
            one,
            tasks.loss,
            device,
            lambda progress, name=name: report(name, progress),
            checkpoint,
            extra=PLAN,
        )
        row = {"name": name, "variant": variant, "run": SAME, **facts_of(network, subwords, one, device, seconds)}
        model = TextModel(name, network, subwords, title=VARIANTS[variant].title)
        model.save(folder / name, card(row), row)
        done = read_results(folder) | {name: row}  # read again: another process may be training other variants
        write_rows(folder, RESULTS, list(done.values()))
        if checkpoint:
            checkpoint.unlink(missing_ok=True)  # the entry is complete, and another recipe would refuse it
    return list(read_results(folder).values())


def facts_of(
    network: Reader, subwords: SubwordTokenizer, recipe: TextRecipe, device: torch.device, seconds: float
) -> dict[str, Any]:
    """The row of one trained entry: accuracy on held-out text, and how it was trained."""
    as_shipped(network)
    sentiment = evaluate_sentiment(network, subwords)
    return {
        "parameters": sum(p.numel() for p in network.parameters()),
        "steps": recipe.steps,
        "batch": recipe.batch,
        "seed": recipe.seed,
        "minutes": round(seconds / 60, 1),
        **hardware(device),
        "data": corpus.LABELLED_SOURCES,
        "held_out": sentiment["sst2_held_out"],
        "top1": sentiment["sst2"],
        "interval": sentiment["sst2_interval"],
        **evaluate_tags(network, subwords),
    }


def card(row: Mapping[str, Any]) -> str:
    """A short card: the Compare page shows the table of all."""
    low, high = row["interval"]
    options = "".join(f", {name} {value}" for name, value in config_of(row["variant"]).options.items())
    return "\n".join(
        [
            f"# text-bench/{row['name']}: {VARIANTS[row['variant']].title}",
            "",
            "Generated by `python -m attnviz.training text-bench`.",
            "",
            f"- {SHAPE.layers} layers, {SHAPE.heads} heads, width {SHAPE.width}{options}, "
            f"context length {SHAPE.context_length} tokens: {row['parameters']:,} parameters",
            f"- {row['steps']:,} steps of {row['batch']:,} tokens, seed {row['seed']}, {row['minutes']} minutes on "
            f"{row['device']}, {row['threads']} threads",
            f"- SST-2 accuracy: {row['top1']} % of {row['held_out']:,} held-out sentences (95 % interval of this one "
            f"network over sentences: {low} to {high} %)",
            f"- UPOS accuracy: {row['upos']} % of {row['words_held_out']:,} held-out words",
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
