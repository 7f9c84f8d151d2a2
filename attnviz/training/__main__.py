"""`python -m attnviz.training NAME`: train a model, evaluate it on held-out data, write weights and card.

`bench` trains every attention variant by one recipe, from nothing and from one multi-head network that was trained
long (--runs), `text-bench` every variant that reads sentences; --only selects variants, --seeds the number of seeds.
`digits` trains small networks on handwritten digits, from 5 seeds by default; `sweep` one of them on an increasing
number of digits. `word2vec` trains word vectors, and `one-block` a transformer block over them. `subwords` trains the
vocabulary of all text models, `treebank` samples the sentences that attention heads are scored against, `scenes` draws
the sample pictures of vit-scenes. `sentences` trains an encoder, `stories` a decoder, `translator` and `seq2seq`
translation models; all four resume where they were interrupted, as `bench` does. `sentences-more` and `stories-more`
continue training the shipped models.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from attnviz.attention import VARIANTS
from attnviz.models import load_image, save
from attnviz.models.files import ASSETS
from attnviz.models.store import BENCH, TEXT_BENCH
from attnviz.paths import SAMPLES
from attnviz.training.card import RUN_FIELDS, card_text, previous_run
from attnviz.training.checkpoint import CheckpointMismatch
from attnviz.training.images import bench, bench_run, digits, scenes, sweep
from attnviz.training.images.data import DATA, NoData
from attnviz.training.images.evaluate import evaluate, open_trained
from attnviz.training.images.loop import Progress, pick_device, run_info, train
from attnviz.training.images.recipes import RECIPES
from attnviz.training.jobs import AlreadyRunning
from attnviz.training.text import bench as text_bench
from attnviz.training.text import guess, sentences, seq2seq, skipgram, stories, subwords, translate, treebank
from attnviz.training.text.loop import BEFORE_DECAY

RUNS = Path("runs")
TEXT = {
    "subwords": subwords.run_subwords,
    "word2vec": skipgram.run_words,
    "one-block": guess.run_guesser,
    "treebank": treebank.run_treebank,
}
RESUMED = {
    "sentences": sentences.run_sentences,
    "translator": translate.run_translator,
    "seq2seq": seq2seq.run_seq2seq,
    "stories": stories.run_stories,
}
MORE = ("sentences-more", "stories-more")  # continue the shipped model, in its own size


def show(progress: Progress) -> None:
    """Print one line that overwrites itself: bar, step, loss, time left."""
    share = progress.step / progress.steps
    left = progress.seconds / share * (1 - share)
    bar = "█" * round(share * 24) + "·" * (24 - round(share * 24))
    end = "\n" if progress.step == progress.steps or not sys.stderr.isatty() else "\r"
    line = f"{bar} {progress.step}/{progress.steps}  loss {progress.loss:.3f}  {left / 60:.1f} min left"
    sys.stderr.write(line + end)
    sys.stderr.flush()


def commands() -> dict[str, tuple[str, ...]]:
    """Every command, with the options it uses besides --device and --out."""
    return {
        **dict.fromkeys(RECIPES, ("steps", "seed", "fresh")),
        "bench": ("steps", "only", "seeds", "size", "runs", "jobs", "state"),
        "text-bench": ("steps", "only", "seeds"),
        "digits": ("steps", "seeds"),
        "sweep": ("steps", "seeds"),
        "scenes": (),
        **dict.fromkeys(TEXT, ()),
        **dict.fromkeys(RESUMED, ("steps", "seed", "fresh", "until", "size")),
        **dict.fromkeys(MORE, ("steps", "seed", "fresh", "until")),
    }


def parse_options() -> argparse.Namespace:
    """Parse the command line; an option that the command does not use is an error."""
    parser = argparse.ArgumentParser(
        prog="python -m attnviz.training",
        description=__doc__,
        epilog="Options of each command: " + " ".join(f"{line}." for line in options_help()),
    )
    add = parser.add_argument
    add("name", choices=list(commands()))
    add("--device", default="auto", help="cuda, mps or cpu (default: the first that is available)")
    add(
        "--out",
        type=Path,
        help="output folder (default: the folder of the model or bench in assets/models; for treebank and scenes "
        "assets/samples; for digits and sweep assets/models itself)",
    )
    add("--steps", type=int, help="override the recipe's number of steps")
    add("--seed", type=int, help="override the recipe's random seed")
    add("--fresh", action="store_true", default=None, help="start again instead of resuming from a checkpoint")
    add("--until", type=int, help="stop after this step of the schedule, and save the model")
    add_bench_options(parser)
    options = parser.parse_args()
    for name in ("steps", "seed", "fresh", "until", "only", "seeds", "size", "runs", "jobs", "state"):
        if getattr(options, name) is not None and name not in commands()[options.name]:
            parser.error(f"{options.name} takes no --{name}")
    options.size = options.size or "cpu"
    return options


def add_bench_options(parser: argparse.ArgumentParser) -> None:
    """Which networks of a table are trained: their variants, seeds, sizes and runs, and how many at once."""
    add = parser.add_argument
    add(
        "--only",
        nargs="+",
        choices=list(VARIANTS),
        help="variants of a bench to train; text-bench skips those that do not read text",
    )
    add(
        "--seeds",
        type=int,
        help="number of seeds (default: 1 for text-bench, 5 for digits, 3 for sweep; for bench 1, but 3 from nothing "
        f"of {', '.join(bench.SEEDS)})",
    )
    add(
        "--runs",
        nargs="+",
        choices=list(bench.RUNS),
        help="runs of the bench (default: all; the base is trained wherever something goes on from it); --steps holds "
        "for those named here",
    )
    add("--jobs", type=int, help="networks of the bench to train at once (default: 1); they share the threads")
    add("--state", type=Path, help=f"folder of what the bench needs to resume (default: {RUNS / 'bench'})")
    add("--size", choices=list(bench.SIZES), help="size of network and recipe (default: cpu)")


def options_help() -> list[str]:
    """One line for each set of options, with the commands that use it."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for name, takes in commands().items():
        groups.setdefault(takes, []).append(name)
    return [
        f"{', '.join(names)}: {', '.join(f'--{one}' for one in takes) or 'only --device and --out'}"
        for takes, names in groups.items()
    ]


def main() -> int:
    """Train, evaluate, save; returns the exit status."""
    options = parse_options()
    try:
        return {
            "bench": train_bench,
            "text-bench": train_text_bench,
            "digits": train_digits,
            "sweep": train_sweep,
            "scenes": draw_scenes,
            **dict.fromkeys(TEXT, train_text),
            **dict.fromkeys((*RESUMED, *MORE), train_resumed),
        }.get(options.name, train_one)(options)
    except (NoData, CheckpointMismatch, AlreadyRunning) as error:
        sys.stderr.write(f"{error}\n")
        return 2


def train_bench(options: argparse.Namespace) -> int:
    """Train the missing entries of the bench and print its table."""
    runs = [bench.RUNS[name] for name in options.runs or bench.RUNS]
    budget = bench.SIZES[options.size]
    if options.steps is not None:
        budget = budget.with_steps(options.steps, runs)
    rows = bench_run.run_bench(
        bench.list_entries(options.only or list(VARIANTS), budget=budget, runs=runs, seeds=options.seeds),
        pick_device(options.device),
        bench.show,
        folder=options.out or BENCH,
        state=options.state or RUNS / "bench",
        budget=budget,
        jobs=options.jobs or 1,
    )
    sys.stdout.write(bench.table(rows))
    return 0


def train_text_bench(options: argparse.Namespace) -> int:
    """Train the missing entries of the text bench and print its table."""
    recipe = replace(text_bench.RECIPE, steps=options.steps or text_bench.RECIPE.steps)
    names = [name for name in options.only or text_bench.READ if name in text_bench.READ]
    todo = [(name, seed) for seed in range(options.seeds or 1) for name in names]
    rows = text_bench.run_text_bench(
        todo,
        pick_device(options.device),
        show_text,
        recipe=recipe,
        folder=options.out or TEXT_BENCH,
        checkpoints=RUNS / "text-bench",
    )
    sys.stdout.write(text_bench.table(rows))
    return 0


def show_text(name: str, progress: skipgram.TextProgress) -> None:
    """Print one line for each report, so that it can go to a log file."""
    left = progress.seconds / progress.share * (1 - progress.share) / 60
    sys.stderr.write(f"{name:24} {progress.share:.0%}  loss {progress.loss:.3f}  {left:.1f} min left\n")
    sys.stderr.flush()


def train_digits(options: argparse.Namespace) -> int:
    """Train the networks on digits and print their table."""
    seeds, device = range(options.seeds or digits.SEEDS), pick_device(options.device)
    rows = digits.run_digits(options.out or ASSETS, device, bench.show, seeds=seeds, steps=options.steps)
    sys.stdout.write(digits.table(rows))
    return 0


def train_sweep(options: argparse.Namespace) -> int:
    """Train on increasing numbers of digits and print the accuracies."""
    seeds, device = range(options.seeds or sweep.SEEDS), pick_device(options.device)
    rows = sweep.run_sweep(options.out or ASSETS, device, bench.show, seeds=seeds, steps=options.steps)
    sys.stdout.write(sweep.table(rows))
    return 0


def draw_scenes(options: argparse.Namespace) -> int:
    """Draw the sample pictures of vit-scenes and print their names."""
    for path in scenes.write_samples(options.out or SAMPLES / "vit-scenes"):
        sys.stdout.write(f"{path.name}\n")
    return 0


def train_text(options: argparse.Namespace) -> int:
    """Train word vectors, the block over them, or the vocabulary; or sample sentences of the treebank."""
    folder = options.out or (treebank.FOLDER if options.name == "treebank" else ASSETS / options.name)
    card = TEXT[options.name](folder, pick_device(options.device), skipgram.show)
    sys.stdout.write(card)
    return 0


def train_resumed(options: argparse.Namespace) -> int:
    """Train a large text model; it resumes where it was interrupted, and may be stopped early."""
    checkpoint = RUNS / options.name / "checkpoint.pt"
    if options.fresh:
        for path in (checkpoint, checkpoint.with_name(BEFORE_DECAY)):
            path.unlink(missing_ok=True)
    changes = {name: value for name in ("steps", "seed", "until") if (value := getattr(options, name)) is not None}
    name, size = options.name.removesuffix("-more"), "more" if options.name in MORE else options.size
    card = RESUMED[name](
        options.out or ASSETS / name, pick_device(options.device), skipgram.show, checkpoint, size, **changes
    )
    sys.stdout.write(card)
    return 0


def train_one(options: argparse.Namespace) -> int:
    """Train one recipe."""
    recipe = RECIPES[options.name]
    recipe = replace(
        recipe, steps=options.steps or recipe.steps, seed=recipe.seed if options.seed is None else options.seed
    )
    checkpoint = RUNS / options.name / "checkpoint.pt"
    if options.fresh:
        checkpoint.unlink(missing_ok=True)
    device = pick_device(options.device)
    pictures = DATA[recipe.data]("train")
    shipped = load_image(recipe.init_from) if recipe.init_from else None
    network, seconds = train(
        recipe,
        device=device,
        checkpoint=checkpoint,
        report=show,
        every=25,
        pictures=pictures,
        init_from=shipped and shipped.network.state_dict(),
    )
    held_out = DATA[recipe.data]("val")
    model = open_trained(recipe, network, held_out)
    facts = evaluate(model, held_out) | run_info(recipe, device, seconds) | {"recipe": options.name}
    facts |= {
        "data": held_out.source,
        "trained_on": len(pictures),
        "parameters": sum(p.numel() for p in network.parameters()),
    }
    if shipped is not None:
        facts["previous_run"] = previous_run(shipped.facts, (*RUN_FIELDS, "top1"))
    text = card_text(model, recipe, facts)
    save(model, options.out or ASSETS / recipe.name, text, facts)
    sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
