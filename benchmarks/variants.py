"""`python -m benchmarks.variants`: what each variant costs, for 64 to 16,384 tokens, beside multi-head attention.

One layer of width 128 with 4 heads reads one picture. Counted by formula: parameters, multiply-adds, bytes of all maps
if they were stored, bytes kept while decoding token by token. Measured: the median time of a forward, all variants
taking turns, and the most memory a process apart held above what it held before. Ratios are to mha in the same run.
`--out assets/variants.json` keeps what was measured, with machine, date and command, for the Compare page.
"""

from __future__ import annotations

import argparse
import os
import sys
from datetime import date
from pathlib import Path

import torch

from attnviz.attention import VARIANTS
from attnviz.measures import reference
from attnviz.measures.cost import COUNTS, Row, Setting, Subject, device_name, grid_of, measure

SMALL = 1e6  # the kernel counts memory by pages and late, so ratios of less say nothing
COLUMNS = (
    "| variant | parameters | M multiply-adds | map MB | state kB | ms | peak MB | remark |\n"
    "|---|---|---|---|---|---|---|---|\n"
)


def with_ratio(value: float | None, whole: float | None, digits: int, scale: float = 1.0) -> str:
    """A figure, and in brackets how many times mha's it is."""
    if value is None:
        return "–"
    ratio = f" ({value / whole:.2f})" if whole else ""
    return f"{value / scale:,.{digits}f}{ratio}"


def line(row: Row, first: Row) -> str:
    """One row of the table."""
    if not row.parameters:
        return f"| {row.name} | – | – | – | – | – | – | {row.skipped} |\n"
    time = "–" if row.seconds is None else f"{1000 * row.seconds:,.2f}"
    time += f" ({row.times:.2f})" if row.times is not None else ""
    cells = (
        with_ratio(row.parameters, first.parameters, 0),
        with_ratio(row.multiply_adds, first.multiply_adds, 1, 1e6),
        with_ratio(row.map_bytes, first.map_bytes, 2, 1e6),
        with_ratio(row.state_bytes, first.state_bytes, 1, 1e3) if row.state_bytes else "–",
        time,
        with_ratio(row.peak_bytes, first.peak_bytes if (first.peak_bytes or 0) > SMALL else None, 1, 1e6),
    )
    return f"| {row.name} | {' | '.join(cells)} | {row.skipped} |\n"


def arguments() -> argparse.Namespace:
    """What the command was asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.variants", description=__doc__)
    parser.add_argument("--tokens", type=int, nargs="*", default=list(COUNTS))
    parser.add_argument("--variants", nargs="*", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--memory", type=float, default=2000, help="MB one forward may hold")
    parser.add_argument("--seconds", type=float, default=120, help="all runs of one variant at one number of tokens")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="a JSON file for what was measured")
    return parser.parse_args()


def keep(options: argparse.Namespace, setting: Setting, rows: list[Row]) -> None:
    """Write what was measured so far, with where it comes from."""
    facts = {"machine": device_name(setting.device), "date": date.today().isoformat(), "torch": torch.__version__}
    facts |= {"command": f"python -m benchmarks.variants {' '.join(sys.argv[1:])}".strip()}
    facts |= {name: getattr(setting, name) for name in ("width", "heads", "runs")}
    reference.save(facts, rows, options.out)


def main() -> int:
    """Print one table for each number of tokens."""
    options = arguments()
    torch.set_num_threads(options.threads)
    setting = Setting(
        width=options.width,
        heads=options.heads,
        runs=options.runs,
        device=options.device,
        bytes_limit=options.memory * 1e6,
        seconds_limit=options.seconds,
    )
    names, rows = list(dict.fromkeys(["mha", *options.variants])), list[Row]()
    sys.stdout.write(f"{device_name(options.device)}; torch {torch.__version__}; float32; ")
    sys.stdout.write(f"one layer, width {options.width}, {options.heads} heads; median of {options.runs}\n")
    for step in measure([Subject(name, VARIANTS[name]) for name in names], options.tokens, setting):
        if not step.rows:
            if os.isatty(sys.stderr.fileno()):
                sys.stderr.write(f"\r{100 * step.share:3.0f} % {step.text:60}")
            continue
        first = step.rows[0]
        high, wide = grid_of(first.count)
        sys.stdout.write(f"\n{first.count} tokens, {high} x {wide} patches; in brackets: times mha\n\n{COLUMNS}")
        sys.stdout.writelines(line(row, first) for row in step.rows)
        sys.stdout.flush()
        rows.extend(step.rows)
        if options.out is not None:
            keep(options, setting, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
