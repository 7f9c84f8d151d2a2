"""The model card: what was trained, on what, how well it does, and what it does not know."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attnviz.models.image import Classifier
from attnviz.training.images.recipes import Recipe


def card_text(model: Classifier, recipe: Recipe, facts: dict[str, Any]) -> str:
    """card.md, every number taken from `facts`."""
    shape = model.config
    patches = (shape.size // shape.patch) ** 2
    lines = [
        *opening(f"{model.name}: {recipe.title}", facts["recipe"]),
        f"| network | {shape.layers} layers, {shape.heads} heads, width {shape.width}, {patches} patches of "
        f"{shape.patch} x {shape.patch} px, readout from {shape.pooling} |",
        f"| input | the middle square at {shape.size} px"
        + (f", coded as JPEG of quality {model.preparation.jpeg} |" if model.preparation.jpeg else " |"),
        f"| parameters | {facts['parameters']:,} |",
        f"| data | {facts['data']} |",
        f"| trained on | {facts['trained_on']:,} pictures, {facts['steps']:,} steps of {facts['batch']}, "
        f"seed {facts['seed']} |",
        *(f"| before that | {line} |" for line in earlier(facts)),
        f"| time | {facts['minutes']} minutes on {facts['device']}, {facts['threads']} threads |",
        f"| held out | {facts['held_out']:,} pictures, never used for training or choices |",
        f"| top-1 | {facts['top1']} % |",
        f"| top-5 | {facts['top5']} % |",
    ]
    if facts["top1_by_group"]:
        lines.append(f"| right coarse group, of the class it names | {facts['group']} % |")
        lines.append(f"| right coarse group, by the sum of its classes | {facts['group_summed']} % |")
        lines.append(f"| right coarse group among the likeliest three | {facts['group_among_3']} % |")
    for count, value in facts.get("top1_with_patches", {}).items():
        lines.append(f"| top-1 with {count} of {patches} patches | {value} % |")
    if facts["top1_by_group"]:
        lines += by_group(facts)
    return "\n".join([*lines, *limits(model)])


def by_group(facts: dict[str, Any]) -> list[str]:
    """A table with a line for each coarse group: how often its pictures got their own name, and the name of a kin."""
    lines = ["", "## By coarse group", "", "| group | top-1 | its group first | its group among three |"]
    lines.append("|---|---|---|---|")
    for group, top1 in sorted(facts["top1_by_group"].items()):
        first, three = facts["group_summed_by_group"][group], facts["group_among_3_by_group"][group]
        lines.append(f"| {group} | {top1} % | {first} % | {three} % |")
    return lines


def opening(title: str, recipe: str) -> list[str]:
    """How every card with a table of facts begins."""
    return [f"# {title}", "", f"Printed by `python -m attnviz.training {recipe}`.", "", "| what | value |", "|---|---|"]


RUN_FIELDS = ("steps", "batch", "seed", "minutes", "device", "before")  # of a training that another one goes on from


def previous_run(facts: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Those of the facts of a shipped model that a training which goes on from it keeps."""
    return {name: value for name, value in facts.items() if name in names}


def earlier(facts: dict[str, Any], score: str = "top1", said: str = "top-1", unit: str = "") -> list[str]:
    """The trainings this one went on from, the latest first, with what each reached."""
    before = facts.get("before")
    if before is None:
        return []
    line = (
        f"{before['steps']:,} steps of {before['batch']:,}{unit}, seed {before['seed']}, {before['minutes']} minutes "
        f"on {before['device']}, to {before[score]} % {said}"
    )
    return [line, *earlier(before, score, said, unit)]


def limits(model: Classifier) -> list[str]:
    """What it knows, and what it does not."""
    return [
        "",
        "## What it knows, and what it does not",
        "",
        f"It chooses among {len(model.classes)} classes and always chooses one, also for a picture of something else. "
        f"It sees {model.config.size} x {model.config.size} pixels: small things and fine texture are lost.",
        "",
        "Classes: " + ", ".join(model.classes) + ".",
        "",
    ]
