"""Pictures at larger sizes than a model was trained on: what it answers, and what every page of pictures costs.

    python -m benchmarks.large                               # the answers of `vit` to its samples, at every size
    python -m benchmarks.large --pages --size 512            # seconds and peak memory of every page at 512 px
    python -m benchmarks.large --pages --size 128 heads      # of one page

A page is opened without a browser in a process of its own, first at the model's own size, so that what every visitor
shares is there already; then at the size asked for: the first opening computes, the second finds what was kept.
Seconds are those of the clock, and of the processor beside them: they differ where a machine does other work as well.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time

import torch
from streamlit.testing.v1 import AppTest

import attnviz
from attnviz import paths
from attnviz.models import ImageModel
from attnviz.ui.inputs.samples import open_sample, samples_of

PAGES = ("start", "heads", "queries_keys", "explain", "embeddings", "positions", "compare")


@torch.no_grad()
def answers(name: str) -> None:
    """Print what a model calls each of its samples at every size, and how often that is what it says at its own."""
    model = attnviz.load(name)
    if not isinstance(model, ImageModel):
        raise SystemExit(f"{name} reads no pictures")
    own: dict[str, int] = {}
    for size in model.spec.input_sizes:
        said, same, start = [], 0, time.process_time()
        for sample in samples_of(name):
            logits = model(model.prepare(open_sample(name, sample).image, size=size)).logits["class"][0]
            best = int(logits.argmax())
            same += own.setdefault(sample, best) == best
            said.append(f"  {sample}: {model.classes[best]} ({100 * float(logits.softmax(-1)[best]):.0f} %)")
        patches, seconds = (size // model.config.patch) ** 2, (time.process_time() - start) / len(said)
        print(f"\n{size} px, {patches:,} patches, {seconds:.1f} s of a processor each; as at its own size: ", end="")
        print(f"{same} of {len(said)}", *said, sep="\n", flush=True)


def page(name: str, size: str, model: str) -> None:
    """Open one page at a size and print what that takes."""
    opened(name, model=model)
    before = peak()
    for what in ("first", "again"):
        clock, processor = time.perf_counter(), time.process_time()
        opened(name, model=model, pixels=size)
        seconds, own = time.perf_counter() - clock, time.process_time() - processor
        line = f"{name:<14}{size:>5} px  {what}  {seconds:7.1f} s  {own:7.1f} s of a processor"
        print(f"{line}  peak {peak():6,.0f} MB (before {before:,.0f})", flush=True)


def opened(name: str, **parameters: str) -> None:
    """Open a page without a browser, however long it takes; print what it says went wrong."""
    at = AppTest.from_file(paths.ROOT / "attnviz" / "main.py", default_timeout=3600)
    at.query_params.update(parameters)
    at.run()
    at.switch_page(f"../pages/{name}.py").run()
    for said in [*at.exception, *at.error]:
        print(f"{name}: {said.value}")


def peak() -> float:
    """The most memory this process has held, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Print answers, or open pages each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="pages; all of them if none is named")
    parser.add_argument("--model", default="vit")
    parser.add_argument("--pages", action="store_true")
    parser.add_argument("--size", default="512")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.here:
        page(given.names[0], given.size, given.model)
    elif given.pages:
        for name in given.names or PAGES:
            asked = ["--here", "--size", given.size, "--model", given.model, name]
            subprocess.run([sys.executable, "-W", "ignore", "-m", "benchmarks.large", *asked], check=False)
    else:
        answers(given.model)


if __name__ == "__main__":
    main()
