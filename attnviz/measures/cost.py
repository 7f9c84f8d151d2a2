"""The cost of variants, counted and measured: `for step in measure(subjects): ...` yields rows as they are finished.

Counted: parameters, multiply-adds, bytes of maps and of state, by each variant's own formula. Measured: the time of one
forward pass of one layer, variants in turn, so that other load of the machine affects all of them; and the peak memory
in a separate process. Nothing is run that would exceed the limits.
To measure something else, add a field to `Row`, fill it in `count_costs` or `finish`, and print it with the others.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import log
from pathlib import Path
from statistics import median

import torch

from attnviz.measures.forward import MemoryProbe, Setting, Subject, build, forward_of, grid_of, time_run

__all__ = ["COUNTS", "Row", "Setting", "Step", "Subject", "device_name", "grid_of", "measure"]

COUNTS = (64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)  # tokens: 8 x 8 patches to 128 x 128
WARM_UP = 3  # forward passes that are not timed


@dataclass(frozen=True)
class Row:
    """One variant at one number of tokens. What was not measured is None, and `skipped` says why."""

    name: str
    count: int
    parameters: int = 0
    multiply_adds: int = 0
    map_bytes: int = 0
    state_bytes: int = 0
    seconds: float | None = None  # median
    times: float | None = None  # median over turns of the ratio to the first subject
    peak_bytes: int | None = None
    first_seconds: float | None = None  # of the forward pass whose memory is measured
    skipped: str = ""


@dataclass(frozen=True)
class Step:
    """Progress of a measurement: a fraction, what is being done, and the rows just finished."""

    share: float
    text: str
    rows: tuple[Row, ...] = ()


def device_name(device: str) -> str:
    """The name of a device; of a processor with the number of torch threads."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        models = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line]
        name = models[0] if models else name
    return f"{device}: {name}, {threads} thread{'s' * (threads > 1)}"


def measure(
    subjects: Sequence[Subject], counts: Sequence[int] = COUNTS, setting: Setting | None = None
) -> Iterator[Step]:
    """Rows for every subject and count, smallest count first; ratios are to the first subject, in the same turns."""
    setting = Setting() if setting is None else setting
    probe = MemoryProbe()
    try:
        yield from steps(subjects, sorted(counts), setting, probe)
    finally:  # also if the consumer has gone
        probe.close()


def steps(subjects: Sequence[Subject], counts: Sequence[int], setting: Setting, probe: MemoryProbe) -> Iterator[Step]:
    """The steps of `measure`."""
    past = dict[str, list[Row]]()
    for i, count in enumerate(counts):
        rows: dict[str, Row] = {}
        networks: dict[str, Callable[[], object]] = {}
        for j, subject in enumerate(subjects):
            yield Step((i + j / len(subjects) / 2) / len(counts), f"memory of {subject.name} at {count} tokens")
            row, forward = prepare(subject, count, setting, past.get(subject.name, []), probe)
            rows[subject.name] = row
            past.setdefault(subject.name, []).append(row)
            if forward is not None:
                networks[subject.name] = forward
        seconds: dict[str, list[float]] = {name: [] for name in networks}
        for turn in range(-WARM_UP, setting.runs):
            yield Step((i + 0.5 + max(turn, 0) / setting.runs / 2) / len(counts), f"time at {count} tokens")
            for name, forward in networks.items():
                taken = time_run(forward, setting.device)
                if turn >= 0:
                    seconds[name].append(taken)
        done = tuple(finish(rows[s.name], seconds, subjects[0].name) for s in subjects)
        yield Step((i + 1) / len(counts), f"{count} tokens done", done)


def prepare(
    subject: Subject, count: int, setting: Setting, past: list[Row], probe: MemoryProbe
) -> tuple[Row, Callable[[], object] | None]:
    """Counted costs and peak memory; and the forward pass, if it may be timed."""
    row = Row(subject.name, count)
    try:
        row = replace(row, **count_costs(subject, count, setting))
        held, seconds = (extrapolate(past, count, name) for name in ("peak_bytes", "first_seconds"))
        if limit := exceeded_limit(held, seconds, setting):
            return replace(row, skipped=f"would {limit}"), None
        forward = forward_of(subject, count, setting)
        held, seconds = probe.measure(subject, count, setting)
    except (ValueError, RuntimeError) as error:  # refused by the variant; the measuring process was ended
        return replace(row, skipped=str(error)), None
    row = replace(row, peak_bytes=held, first_seconds=seconds)
    if limit := exceeded_limit(held, seconds, setting):
        return replace(row, skipped=f"would {limit}" if held <= setting.bytes_limit else f"does {limit}"), None
    return row, forward


def exceeded_limit(held: float, seconds: float, setting: Setting) -> str:
    """The limit that a forward pass of so many bytes and seconds exceeds, in words; empty if none."""
    if held > setting.bytes_limit:
        return f"hold more than {setting.bytes_limit / 1e6:,.0f} MB"
    if seconds * (setting.runs + WARM_UP) > setting.seconds_limit:
        return f"take more than {setting.seconds_limit:g} s for {setting.runs} runs of {seconds:.2g} s"
    return ""


def extrapolate(past: Sequence[Row], count: int, name: str) -> float:
    """The value to expect from its growth so far: as n² from one row, by the slope of the last two rows from two."""
    known = [(row.count, max(value, 1e-9)) for row in past if (value := getattr(row, name)) is not None]
    if not known:
        return 0.0
    (last, value), slope = known[-1], 2.0
    if len(known) > 1 and known[-2][0] < last:
        slope = min(max(log(value / known[-2][1]) / log(last / known[-2][0]), 1.0), 2.0)
    return value * (count / last) ** slope


def count_costs(subject: Subject, count: int, setting: Setting) -> dict[str, int]:
    """Costs by the variant's own formulas. Raises ValueError if it cannot be built for so many tokens."""
    cost = build(subject, count, setting).cost(count, count)
    return {name: getattr(cost, name) for name in ("parameters", "multiply_adds", "map_bytes", "state_bytes")}


def finish(row: Row, seconds: Mapping[str, list[float]], first: str) -> Row:
    """The row with its times, if it was timed."""
    own, other = seconds.get(row.name), seconds.get(first)
    if not own:
        return row
    times = median(a / b for a, b in zip(own, other, strict=True)) if other else None
    return replace(row, seconds=median(own), times=times)
