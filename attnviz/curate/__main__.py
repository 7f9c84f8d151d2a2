"""`python -m attnviz.curate`: measure every candidate, keep those that show their effect, in assets/examples.json.

`--check` writes nothing and ends with 1 where the file says something else or an example no longer shows its effect.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence

from attnviz.curate.kinds import KINDS, Example, lacking, measured
from attnviz.paths import EXAMPLES


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure all candidates and write those that show their effect."""
    parser = argparse.ArgumentParser(prog="python -m attnviz.curate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; 1 where the file is not what is measured")
    options = parser.parse_args(arguments)
    kept = list(found())
    text = written(kept)
    if options.check:
        return int(not EXAMPLES.is_file() or EXAMPLES.read_text(encoding="utf-8") != text)
    EXAMPLES.write_text(text, encoding="utf-8")
    return 0


def found() -> Iterator[Example]:
    """Every candidate that reaches what its kind must reach; all are printed with their numbers."""
    for name, kind in KINDS.items():
        sys.stdout.write(f"\n{name}: {kind.shows}\n")
        for candidate in kind.candidates():
            example = {"kind": name, **candidate}
            example["numbers"] = measured(example)
            short = lacking(example)
            sys.stdout.write(line(example, short))
            if not short:
                yield example


def line(example: Example, short: Sequence[str]) -> str:
    """One example with its numbers; a star marks those that are too small."""
    numbers = "  ".join(f"{name} {value:.3f}{'*' * (name in short)}" for name, value in example["numbers"].items())
    what = ", ".join(str(value) for name, value in example.items() if name not in ("kind", "numbers", "model"))
    return f"{'-' if short else '+'} {what}: {numbers}\n"


def written(examples: Sequence[Example]) -> str:
    """The file: one example a line."""
    lines = ",\n".join("  " + json.dumps(example, ensure_ascii=False) for example in examples)
    return f'{{"made by": "python -m attnviz.curate", "examples": [\n{lines}\n]}}\n'


if __name__ == "__main__":
    raise SystemExit(main())
