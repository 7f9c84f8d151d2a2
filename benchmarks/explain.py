"""`python -m benchmarks.explain`: attribution methods beside their reference forms, in time and memory.

    python -m benchmarks.explain                              # every row at its own numbers of tokens
    python -m benchmarks.explain --tokens 197 785 --rows rollout generic

12 layers of 12 heads, head width 64, float32, random query, key and value from a seed. A row named "-given" has the
maps of the layers at hand, as its reference has; every other row of ours starts from query and key, and what its
reference is given (the maps, their gradients) is no part of the reference's time. Times are medians; ours and the
reference take turns. Where a reference does not fit into `--memory`, ours stands alone; what the reference would store
is counted. One thread is timed by the seconds that its processor works, which other programs disturb little; several by
the clock, so run those on an idle machine.

rollout: mean over heads. discard: maximum over heads, the smallest 90 % dropped; the reference drops entries of CLS
too, so its numbers differ. generic: generic attention explainability (Chefer et al. 2021) from a score that is linear
in the outputs of attention: the graph of a network behind it is not counted. flow: to all tokens; the reference
searches one, and its time is multiplied by their number. norms, alti: the reference holds the vectors of one layer at
a time.

Memory is measured in a process of its own for each row: the most that it held (VmHWM of Linux, reset before) while ours
ran, above what it held before, when the inputs were there and one small run had loaded the libraries. Freed memory goes
back to the system at once there. Each row is timed in another process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from attnviz.measures.forward import MALLOC_SETTINGS, reset_peak, resident
from benchmarks.explain_rows import DIM, HEADS, LAYERS, ROWS, Aim, Figures, Size, times

MEBI, GIBI = 2**20, 2**30
SMALL = 17  # tokens of the run that loads the libraries
LARGE = 2000  # tokens from which one run is the default
COLUMNS = (
    "| row | tokens | ours ms | reference ms | times | ours adds MiB | reference stores GiB | difference | aim |\n"
    "|---|---|---|---|---|---|---|---|---|\n"
)


def timed(run: Callable[[], Tensor]) -> tuple[float, Tensor]:
    """Seconds of one run, of the processor where one thread works, and what it gave."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    start = clock()
    result = run()
    return clock() - start, result


def extra(name: str, size: Size) -> dict[str, float]:
    """Bytes that one run of ours holds above its inputs, in this process, which must be fresh."""
    ROWS[name].make(size._replace(tokens=SMALL)).ours()
    case = ROWS[name].make(size)
    before = reset_peak()
    case.ours()
    return {"extra": max(0, resident("VmHWM") - before)}


def seconds(name: str, size: Size, runs: int, alone: bool) -> dict[str, float | None]:
    """Median seconds of ours and of the reference, and their largest difference relative to the largest entry."""
    row = ROWS[name]
    small = row.make(size._replace(tokens=SMALL))
    small.ours()
    small.reference()()
    case = row.make(size)
    if alone:
        return {"seconds": statistics.median(timed(case.ours)[0] for _ in range(runs))}
    reference = case.reference()
    pairs = [(timed(case.ours), timed(reference)) for _ in range(runs)]
    (_, found), (_, expected) = pairs[-1]
    difference = (found - expected).abs() / expected[~expected.isnan()].abs().max()
    return {
        "seconds": statistics.median(ours for (ours, _), _ in pairs),
        "reference": statistics.median(theirs for _, (theirs, _) in pairs) * row.parts(size),
        "difference": float(difference[~difference.isnan()].max()) if row.comparable else None,
    }


def process(arguments: Sequence[object], settings: dict[str, str]) -> dict[str, float]:
    """What a fresh process measured. Raises RuntimeError with its last words if it failed."""
    command = [sys.executable, "-m", "benchmarks.explain", *map(str, arguments)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env={**os.environ, **settings})
    if done.returncode:
        raise RuntimeError(f"ended with {done.returncode}: {done.stderr.strip()[-300:]}")
    return json.loads(done.stdout)


def measure(name: str, size: Size, options: argparse.Namespace) -> Figures:
    """The figures of one row, each kind from a process of its own."""
    runs = options.runs or (3 if size.tokens < LARGE else 1)
    alone = ROWS[name].held(size) > options.memory * GIBI
    shared = [name, "--tokens", size.tokens, "--layers", size.layers, "--threads", options.threads, "--runs", runs]
    held = process(["--measure", "extra", "--rows", *shared], MALLOC_SETTINGS)
    spent = process(["--measure", "alone" if alone else "seconds", "--rows", *shared], {})
    return Figures(spent["seconds"], spent.get("reference"), spent.get("difference"), int(held["extra"]))


def line(name: str, size: Size, figures: Figures) -> str:
    """One row of the table."""
    aim = ROWS[name].aim
    cells = (
        f"{1000 * figures.seconds:,.1f}",
        "does not fit" if figures.reference is None else f"{1000 * figures.reference:,.1f}",
        "–" if figures.reference is None else f"{times(figures):.2f}",
        f"{figures.extra / MEBI:,.1f}",
        f"{ROWS[name].stores(size) / GIBI:,.2f}",
        "–" if figures.difference is None else f"{figures.difference:.0e}",
        verdict(aim, figures) if aim and size == Size(aim.tokens) else "",
    )
    return f"| {name} | {size.tokens} | {' | '.join(cells)} |\n"


def verdict(aim: Aim, figures: Figures) -> str:
    """What was to be reached, and whether it was."""
    return f"{aim.text}: {'reached' if aim.reached(figures) else 'missed'}"


def table(options: argparse.Namespace) -> None:
    """Print every row that was asked for as soon as it is measured."""
    sys.stdout.write(
        f"{options.layers} layers x {HEADS} heads, head width {DIM}, float32, {options.threads} thread(s), "
        f"torch {torch.__version__}; median of {options.runs or f'3 (of 1 from {LARGE} tokens on)'}\n\n{COLUMNS}"
    )
    for name in options.rows:
        row = ROWS[name]
        for tokens in options.tokens or row.tokens:
            size = Size(tokens, options.layers)
            sys.stdout.flush()
            if row.given and row.held(size) > options.memory * GIBI:
                gibi = row.held(size) / GIBI
                sys.stdout.write(f"| {name} | {tokens} | needs {gibi:,.1f} GiB | – | – | – | – | – | |\n")
                continue
            try:
                sys.stdout.write(line(name, size, measure(name, size, options)))
            except RuntimeError as error:
                sys.stdout.write(f"| {name} | {tokens} | {' '.join(str(error).split())} | – | – | – | – | – | |\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, or what one process measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, nargs="*", help="instead of each row's own numbers")
    parser.add_argument("--rows", nargs="*", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--layers", type=int, default=LAYERS)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--runs", type=int, help=f"3 unless given, 1 from {LARGE} tokens on")
    parser.add_argument("--memory", type=float, default=4, help="GiB that a reference may hold here")
    parser.add_argument("--measure", choices=["extra", "seconds", "alone"], help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    if options.measure is None:
        table(options)
        return
    name, size = options.rows[0], Size(options.tokens[0], options.layers)
    if options.measure == "extra":
        sys.stdout.write(json.dumps(extra(name, size)))
    else:
        sys.stdout.write(json.dumps(seconds(name, size, options.runs, options.measure == "alone")))


if __name__ == "__main__":
    main()
