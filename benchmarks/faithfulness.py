"""`python -m benchmarks.faithfulness`: how faithful every method's maps are, beside controls that know nothing.

    python -m benchmarks.faithfulness                                 # every part, written to assets/faithfulness.json
    python -m benchmarks.faithfulness scenes --count 20 --out /tmp/scores.json

Every method of METHODS and every control explains the same inputs. On scenes it is known which pixels decide, and the
model was trained with patches removed; boxes of photographs only say where the object is. Options of a method are the
defaults, and, of methods that are not slow, also those that do best on other inputs of the same kind, chosen before the
test by the area between the curves of removal. Means are over inputs, with 95 % bootstrap intervals and paired
differences to random relevance; inputs that the model gets wrong are kept apart. Parts are `scenes`, `photographs`,
`sentences`, `agreement` and `randomisation`.
"""

from __future__ import annotations

import argparse
import copy
import datetime
import math
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import attnviz
from attnviz.measures import recorded
from attnviz.measures.faithfulness import (
    Perturbation,
    blur_fill,
    by_part,
    completeness_error,
    filling,
    mean_fill,
    parts_of,
    rationale,
    removal,
    removal_areas,
    saco,
    single_deletion,
    single_drops,
)
from attnviz.measures.intervals import paired, summarise
from attnviz.measures.localisation import mass, pointing, rank_accuracy
from attnviz.measures.randomisation import cascade_correlation
from attnviz.methods import CONTROLS, METHODS
from attnviz.methods.base import Option
from attnviz.methods.input_gradients import integrate
from attnviz.training.images import scenes
from attnviz.training.images.data import NoData
from attnviz.types import NoTokenMap, UnsupportedMask
from benchmarks.faithfulness_inputs import Case, agreement_cases, photograph_cases, scene_cases, sentence_cases

COUNTS = {"scenes": 6, "photographs": 8, "sentences": 40, "agreement": 120, "randomisation": 4}  # scenes: of each kind
FROZEN = 3  # inputs that options are chosen on; of scenes, one of each kind
SHARES = (0.0, 0.25, 0.5, 0.75, 0.9)  # tried for an option that is a share
STEPS = {"photographs": 8}  # of curves; elsewhere 16
Scores = dict[str, Tensor]  # score -> [map]
Maps = dict[tuple[str, str], dict[str, Any]]  # (method, "default" or "chosen") -> its options


def values_of(option: Option, depth: int) -> list[Any]:
    """What is tried of one option."""
    low, high = option.range
    return {
        "choice": list(option.choices),
        "share": [share for share in SHARES if low <= share <= high],
        "toggle": [False, True],
        "layer": list(range(depth)),
        "number": [option.default],  # of steps or samples: more is better and slower, which is no choice to freeze
    }[option.kind]


def candidates(name: str, depth: int) -> list[dict[str, Any]]:
    """The defaults of a method, and every single change of them."""
    options = METHODS[name].options
    changes = [{option.name: value} for option in options for value in values_of(option, depth)]
    defaults = {option.name: option.default for option in options}
    return [{}, *(change for change in changes if not change.items() <= defaults.items())]


def map_of(case: Case, name: str, options: Mapping[str, Any]) -> Tensor:
    """The relevance of each part of an input."""
    relevance = attnviz.explain(name, case.model, case.sample, case.target, **options)
    return by_part(relevance.detach().cpu(), parts_of(next(iter(case.sample.tokens.values()))))


def applicable(case: Case) -> tuple[list[str], dict[str, str]]:
    """The methods and controls that explain such an input, and why the others do not."""
    found, refused = list[str](), dict[str, str]()
    for name in [*METHODS, *CONTROLS]:
        try:
            map_of(case, name, {})
            found.append(name)
        except (NoTokenMap, UnsupportedMask) as error:
            refused[name] = str(error)
    return found, refused


def choose_options(names: Sequence[str], cases: Sequence[Case], steps: int) -> dict[str, dict[str, Any]]:
    """For every method that has options, those with the largest mean area between the curves of removal.

    Slow methods keep their defaults: to try each of their options would take longer than all the rest.
    """
    chosen = {}
    for name in names:
        quick = name in METHODS and not METHODS[name].slow
        tried = candidates(name, cases[0].model.spec.layers) if quick else [{}]
        if len(tried) == 1:
            continue
        totals = np.zeros(len(tried))
        for case in cases:
            maps, valid = [], []
            for index, options in enumerate(tried):
                try:
                    maps.append(map_of(case, name, options))
                    valid.append(index)
                except (NoTokenMap, UnsupportedMask, ValueError):
                    totals[index] = -np.inf
            areas = removal_areas(removal(case.model, case.sample, case.target), torch.stack(maps), steps)
            totals[valid] += areas["logit"].abpc.numpy()
        if (best := int(totals.argmax())) > 0:
            chosen[name] = tried[best]
    return chosen


def curves_of(perturbation: Perturbation, maps: Tensor, steps: int, how: str) -> Scores:
    """Deletion, insertion and the area between them, of logit and probability."""
    areas = removal_areas(perturbation, maps, steps)
    return {f"{area}/{of}/{how}": values for of in areas for area, values in areas[of]._asdict().items()}


def scores_of(case: Case, maps: Tensor) -> Scores:
    """Every score of every map [map part] of one input."""
    found: Scores = {}
    for name, mask in case.masks.items():
        prefix = "" if name in ("object", "word") else f"{name} "
        found |= {f"{prefix}mass": mass(maps, mask)}
        if not prefix:
            found |= {"pointing": pointing(maps, mask), "rank accuracy": rank_accuracy(maps, mask)}
    if case.inputs == "agreement":
        return found
    steps, watched = STEPS.get(case.inputs, 16), removal(case.model, case.sample, case.target)
    found |= curves_of(watched, maps, steps, "removal")
    if case.inputs == "photographs":
        return found  # with 256 patches the others take minutes an input
    found |= {"single deletion": single_deletion(maps, single_drops(watched)), "saco": saco(watched, maps)}
    found |= rationale(watched, maps)._asdict()
    pixels = next(iter(case.sample.inputs.values()))
    if pixels.is_floating_point():
        fills = {"mean": mean_fill(pixels), "blur": blur_fill(pixels, float(case.model.spec.patch_size))}
        for how, fill in fills.items():
            found |= curves_of(filling(case.model, case.sample, fill, case.target), maps, steps, how)
    return found


def completeness(case: Case, maps: Maps) -> Tensor:
    """The completeness error of every map whose method claims that it adds up to a change of the logit [map].

    Not a number for the others: input times gradient is complete for linear models only and claims nothing here.
    """
    errors = torch.full((len(maps),), torch.nan, dtype=torch.float64)
    for index, ((name, _), options) in enumerate(maps.items()):
        if name == "integrated gradients" and options.get("per_token", "sum") == "sum":
            given = {key: value for key, value in options.items() if key != "per_token"}
            found = integrate(case.model, case.sample, case.target, **given)
            errors[index] = completeness_error(found.features.sum(-1), found.change)
    return errors


def score_all(cases: Iterator[Case], maps: Maps, report: Callable[[str], None]) -> list[recorded.Row]:
    """Every score of every map, over all inputs of a kind: those that the model gets right, and the others."""
    table: dict[tuple[str, bool, str], list[np.ndarray]] = defaultdict(list)
    for number, case in enumerate(cases):
        relevance = torch.stack([map_of(case, name, options) for (name, _), options in maps.items()])
        scores = scores_of(case, relevance) | {"completeness error": completeness(case, maps)}
        for score, values in scores.items():
            table[case.inputs, case.right, score].append(values.double().numpy())
        if number % 10 == 9:
            report(f"{case.inputs}: {number + 1} explained")
    rows, baseline = [], list(maps).index(("random", "default"))
    for (inputs, right, score), values in table.items():
        each = np.stack(values, -1)  # [map input]
        for (name, options), row in zip(maps, each, strict=True):
            if score == "completeness error" and np.isnan(row).all():
                continue  # it is claimed by few methods
            difference = paired(row, each[baseline])
            rows.append(recorded.Row(inputs, name, options, score, right, summarise(row), difference))
    return rows


def run_part(
    part: str, count: int, frozen: int, report: Callable[[str], None]
) -> tuple[dict[str, Any], list[recorded.Row]]:
    """Facts and rows of one part."""
    cases: dict[str, tuple[Iterator[Case], Iterator[Case]]] = {
        "scenes": (scene_cases(count), scene_cases(max(1, frozen // 8), scenes.FROZEN)),
        "photographs": (photograph_cases(count), photograph_cases(frozen, frozen=True)),
        "sentences": (sentence_cases(count), sentence_cases(frozen, frozen=True)),
        "agreement": (agreement_cases(count), agreement_cases(frozen, frozen=True)),
    }
    test, chosen_on = cases[part]
    frozen_cases = list(chosen_on)
    names, refused = applicable(frozen_cases[0])
    report(f"{part}: choosing options on {len(frozen_cases)} inputs")
    options = choose_options(names, frozen_cases, STEPS.get(part, 16))
    maps: Maps = {(name, "default"): {} for name in names} | {(name, "chosen"): one for name, one in options.items()}
    rows = score_all(test, maps, report)
    model = frozen_cases[0].model
    facts = {"model": model.name, "digest": model.digest, "chosen": options, "refused": refused}
    return facts | {"chosen_on": len(frozen_cases)}, rows


def randomise(count: int, report: Callable[[str], None]) -> tuple[dict[str, Any], list[recorded.Row]]:
    """Rank correlation of each method's maps with those of the network whose layers are shuffled from the answer down.

    The score "layers 2" is that with the classifier and the last block shuffled. Controls stay at 1, as they must.
    """
    cases = [case for case, _ in zip(scene_cases(count), range(count), strict=False)]
    names, refused = applicable(cases[0])
    model = copy.deepcopy(cases[0].model)
    modules = [*model.network.blocks, model.network.classify]

    def maps() -> Tensor:
        report("randomisation: maps of one stage")
        changed = [Case(c.inputs, model, c.sample, c.target, c.right) for c in cases]
        return torch.stack([torch.stack([map_of(case, name, {}) for case in changed]) for name in names])

    found = cascade_correlation(maps, modules).numpy()  # [stage method input]
    rows = [
        recorded.Row("randomisation", name, "default", f"layers {stage}", True, summarise(row), paired(row, baseline))
        for stage, (each, baseline) in enumerate(zip(found, found[:, names.index("random")], strict=True))
        for name, row in zip(names, each, strict=True)
    ]
    return {"model": model.name, "digest": cases[0].model.digest, "refused": refused}, rows


def table(rows: Sequence[recorded.Row]) -> str:
    """The rows as one Markdown table for each kind of inputs, of those that the model gets right."""
    lines = []
    for inputs in dict.fromkeys(row.inputs for row in rows):
        mine = [row for row in rows if row.inputs == inputs and row.right]
        if not mine:
            continue
        names = list(dict.fromkeys(row.score for row in mine))
        lines += ["", f"{inputs}: {max(row.value.scored for row in mine)} inputs", ""]
        lines += [f"| method | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
        for method in dict.fromkeys((row.method, row.options) for row in mine):
            cells = {row.score: row for row in mine if (row.method, row.options) == method}
            label = method[0] if method[1] == "default" else f"{method[0]}, chosen options"
            lines.append(f"| {label} | {' | '.join(cell(cells[name]) if name in cells else '–' for name in names)} |")
    return "\n".join(lines) + "\n"


def cell(row: recorded.Row) -> str:
    """A mean with its interval; a star where its difference to random excludes 0."""
    if math.isnan(row.value.mean):
        return "–"
    star = "*" if row.difference.low > 0 or row.difference.high < 0 else ""
    if row.value.scored == 1:
        return f"{row.value.mean:.2f}"
    return f"{row.value.mean:.2f} ({row.value.low:.2f} to {row.value.high:.2f}){star}"


def main() -> int:
    """Score, print and store every part that is asked for; a part whose data is not here is left out."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faithfulness", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*COUNTS, []], help="which parts (default: all)")
    parser.add_argument("--count", type=int, help="inputs of each kind (default: as many as the part says)")
    parser.add_argument("--frozen", type=int, default=FROZEN, help="other inputs that options are chosen on")
    parser.add_argument("--out", type=Path, default=recorded.FILE)
    options = parser.parse_args()
    torch.set_num_threads(1)
    started = time.monotonic()

    def report(line: str) -> None:
        sys.stderr.write(f"{time.monotonic() - started:7.0f} s  {line}\n")

    missing = False
    for part in options.parts or COUNTS:
        count = options.count or COUNTS[part]
        try:
            run = randomise(count, report) if part == "randomisation" else run_part(part, count, options.frozen, report)
        except NoData as error:
            sys.stderr.write(f"{part} is left out. {error}\n")
            missing = True
            continue
        facts, rows = run
        command = " ".join(["python -m benchmarks.faithfulness", *sys.argv[1:]])
        facts |= {"command": command, "date": datetime.date.today().isoformat(), "count": count}
        recorded.save(part, facts, rows, options.out)
        sys.stdout.write(table(rows))
        sys.stdout.flush()
    return 2 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
