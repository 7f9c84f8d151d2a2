"""Run the bench: train the entries that are missing, several at once if asked, and write table, networks and cards."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch

from attnviz.models import save
from attnviz.models.files import write_rows
from attnviz.models.image import Classifier
from attnviz.models.store import RESULTS, bench_results, open_network
from attnviz.training.images.bench import (
    BASE,
    CPU_BUDGET,
    DONOR,
    UPTRAINED,
    Budget,
    Entry,
    Report,
    card,
    digest_of,
    hours_left,
    is_done,
    read_results,
    recipe_of,
)
from attnviz.training.images.data import DATA, Pictures, split_validation
from attnviz.training.images.evaluate import evaluate, interval, open_trained
from attnviz.training.images.loop import Progress, run_info, train
from attnviz.training.images.recipes import Recipe
from attnviz.training.images.teacher import with_soft_labels
from attnviz.training.images.uptrain import InitialParameters, uptrain_from
from attnviz.training.jobs import locked, run_jobs
from attnviz.training.muon import computes_in_bfloat16

EVERY = 50  # steps between two reports
CHECK = 500  # steps between two measurements on the pictures to choose by
Row = dict[str, Any]


def run_bench(
    todo: Sequence[Entry],
    device: torch.device,
    report: Report,
    *,
    folder: Path,
    state: Path,
    budget: Budget = CPU_BUDGET,
    jobs: int = 1,
) -> list[Row]:
    """Train and save every entry that is not there yet, in this order; returns the rows of folder/bench.json.

    With several `jobs`, what starts from nothing is trained beside the base, and what goes on from it comes next;
    `report` must be picklable. `state` holds what is needed to resume. Raises AlreadyRunning.
    """
    with locked(state):
        missing = [entry for entry in todo if not complete(entry, budget, folder)]
        work = partial(train_entry, device=device, report=report, folder=folder, state=state, budget=budget)
        say_left(missing, budget, folder, jobs)
        if missing and jobs > 1:
            training_pictures(recipe(missing[0], budget), state, device)  # soft labels, once for all processes

        def ready(entry: Entry) -> bool:
            """Whether what an entry goes on from is there."""
            return entry.run != UPTRAINED or all(one.run != BASE for one in missing)

        for entry, row in run_jobs(work, list(missing), jobs, ready):
            rows = read_results(folder) | {row["name"]: row}  # read again: others may be training other variants
            write_rows(folder, RESULTS, list(rows.values()))
            checkpoint_of(row["name"], state).unlink(missing_ok=True)  # it is complete
            missing.remove(entry)
            say_left(missing, budget, folder, jobs)
    return list(read_results(folder).values())


def complete(entry: Entry, budget: Budget, folder: Path) -> bool:
    """Whether the network is there, trained by this recipe."""
    chosen = recipe(entry, budget)
    return is_done(chosen, chosen.name, folder, digest_of(entry, budget))


def recipe(entry: Entry, budget: Budget) -> Recipe:
    """The recipe of an entry."""
    return recipe_of(entry.variant, entry.run, seed=entry.seed, budget=budget)


def checkpoint_of(name: str, state: Path) -> Path:
    """Where the state of one training is kept."""
    return state / name / "checkpoint.pt"


def train_entry(
    entry: Entry, *, device: torch.device, report: Report, folder: Path, state: Path, budget: Budget
) -> tuple[Entry, Row]:
    """Train, evaluate and save one network; returns its row of the table."""
    chosen, start = recipe(entry, budget), None
    pictures, validation = training_pictures(chosen, state, device)
    if entry.run == UPTRAINED:
        base = open_network(folder / recipe(Entry(DONOR, BASE), budget).name).network
        start = uptrain_from(base.state_dict(), chosen.config, chosen.seed)
    network, seconds = train(
        chosen,
        device=device,
        checkpoint=checkpoint_of(chosen.name, state),
        pictures=pictures,
        init_from=start and start.tensors,
        every=EVERY,
        report=with_checks(report, chosen, validation),
    )
    held_out = held_out_pictures(chosen.data)
    model = open_trained(chosen, network, held_out)
    row: Row = {"name": chosen.name, "variant": entry.variant, "run": entry.run}
    row |= {"recipe_digest": digest_of(entry, budget)}
    row |= {"parameters": sum(p.numel() for p in network.parameters()), **run_info(chosen, device, seconds)}
    row |= levers(chosen, device) | taken_over(start)
    if validation is not None:
        row |= {"validation": len(validation), "validation_top1": top1(model, validation)}
    accuracy = evaluate(model, held_out, drop_patches=False)
    row |= {"data": held_out.source, **accuracy, "interval": interval(accuracy["top1"], accuracy["held_out"])}
    save(model, folder / chosen.name, card(chosen, row), row)
    return entry, row


def with_checks(report: Report, chosen: Recipe, validation: Pictures | None) -> Callable[[Progress], None]:
    """Report each step under the name of the network, and now and then its accuracy on the pictures to choose by."""

    def reported(progress: Progress) -> None:
        report(chosen.name, progress)
        if validation is not None and progress.step % CHECK == 0:
            model = open_trained(chosen, deepcopy(progress.network), validation)
            say(f"{chosen.name:24} {top1(model, validation)} % of {len(validation):,} pictures to choose by")

    return reported


def top1(model: Classifier, pictures: Pictures) -> float:
    """Top-1 accuracy in percent."""
    return evaluate(model, pictures, drop_patches=False)["top1"]


@lru_cache(maxsize=1)
def held_out_pictures(data: str) -> Pictures:
    """The held-out pictures, read once."""
    return DATA[data]("val")


def training_pictures(chosen: Recipe, state: Path, device: torch.device) -> tuple[Pictures, Pictures | None]:
    """The pictures to train on, with soft labels where the recipe has a teacher, and those to choose by."""
    return prepared(chosen.data, chosen.teacher, chosen.validation, state, device)


@lru_cache(maxsize=1)
def prepared(
    data: str, teacher: str, validation: int, state: Path, device: torch.device
) -> tuple[Pictures, Pictures | None]:
    """As `training_pictures` says, once for all entries."""
    pictures, others = DATA[data]("train"), None
    if validation:
        pictures, others = split_validation(pictures, validation)
    if teacher:

        def report(done: int, of: int) -> None:
            say(f"{'soft labels':24} {done}/{of}")

        pictures = with_soft_labels(pictures, teacher, state / "teacher", device, report)
    return pictures, others


def levers(chosen: Recipe, device: torch.device) -> Row:
    """What the recipe uses beside labels, for the table and the card; nothing without a teacher."""
    if not chosen.teacher:
        return {}
    removed = any(share < 1 for _, share in chosen.patch_keep_schedule)
    how = "masked" if chosen.masked_removal else "left out"
    bfloat16 = chosen.bfloat16 and computes_in_bfloat16(device)
    return {
        "teacher": chosen.teacher,
        "distillation": chosen.distillation,
        "temperature": chosen.temperature,
        "removed": f"in some steps half of the patches {how}" if removed else "no patches removed",
        "precision": "bfloat16" if bfloat16 else "float32",
    }


def taken_over(start: InitialParameters | None) -> Row:
    """How many parameters an uptrained network took over, and the names of the new ones, without their layers."""
    if start is None:
        return {}

    def numbers(names: Sequence[str]) -> int:
        return sum(start.tensors[name].numel() for name in names)

    short = [name.split(".", 2)[2] if name.startswith("blocks.") else name for name in start.new]
    return {
        "copied": numbers(start.copied),
        "pooled": numbers(start.pooled),
        "new_parameters": numbers(start.new),
        "new_names": list(dict.fromkeys(short)),
    }


def say_left(missing: Sequence[Entry], budget: Budget, folder: Path, jobs: int) -> None:
    """Print how many networks are missing, and about how long they will take."""
    hours = hours_left(missing, budget, [*bench_results(), *bench_results(folder)], jobs)
    time = "" if math.isnan(hours) else f", about {hours:.1f} h"
    say(f"{len(missing)} networks to train{time}")


def say(text: str) -> None:
    """Print one line to the log."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
