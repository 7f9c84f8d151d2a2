"""Pictures at larger sizes than a model was trained on: what it answers, and what every page of pictures costs.

    python -m benchmarks.large                               # the answers of `vit` to its samples, at every size
    python -m benchmarks.large --pages --size 512            # seconds and peak memory of every page at 512 px
    python -m benchmarks.large --pages --size 128 heads      # of one page
    python -m benchmarks.large --visit --size 512            # of one visit: main views, and what a click changes

A page is opened without a browser in a process of its own, first at the model's own size, so that what every visitor
shares is there already; then at the size asked for: the first opening computes, the second finds what was kept.
A visit goes from page to page in one process: the pass of the model is made once, by the first.
Seconds are those of the clock, and of the processor beside them: they differ where a machine does other work as well,
and where two cores work together.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from streamlit.testing.v1 import AppTest

import attnviz
from attnviz import paths
from attnviz.models import ImageModel
from attnviz.ui.inputs.samples import open_sample, samples_of

CLICKS: dict[str, dict[str, dict[str, object]]] = {  # page -> click -> choices; a float: of the patches
    "heads": {"another row": {"token": 0.3}, "another head": {"head": 3}},
    "explain": {
        "another residual weight": {"alpha": 20},
        "from another layer": {"from": 3},
        "raw attention of every layer": {"method": "raw attention"},
        "raw attention from one patch": {"target": "token", "token": 0.4},
        "rollout from that patch": {"method": "rollout"},
    },
    "queries_keys": {"another query": {"token": 0.6}, "another key": {"key": 0.2}, "one more key": {"key": 0.25}},
}
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
        timed(f"{name:<14}{size:>5} px  {what}", lambda: opened(name, model=model, pixels=size))
    print(f"{name:<14}{size:>5} px  before: {before:,.0f} MB", flush=True)


def visit(size: str, model: str) -> None:
    """Go from page to page at a size, click on each, and print what every step takes."""
    opened("start", model=model)
    patches = (int(size) // (attnviz.load(model).spec.patch_size or 1)) ** 2
    at = timed(f"{size} px  the pass of the model, and Start", lambda: opened("start", model=model, pixels=size))
    for name, title in (("heads", "Heads"), ("explain", "Explain"), ("queries_keys", "Queries and keys")):
        timed(f"{size} px  {title}: main view", lambda name=name: checked(at.switch_page(f"../pages/{name}.py").run()))
        for what, choices in CLICKS[name].items():
            for key, value in choices.items():
                at.session_state[key] = (int(value * patches),) if isinstance(value, float) else value
            timed(f"{size} px  {title}: {what}", lambda: checked(at.run()))


def timed(what: str, do: Callable[[], AppTest]) -> AppTest:
    """The page that is done, and a line about what that took."""
    clock, processor = time.perf_counter(), time.process_time()
    at = do()
    seconds, own = time.perf_counter() - clock, time.process_time() - processor
    print(f"{what:<56}{seconds:7.1f} s  {own:7.1f} s of a processor  peak {peak():6,.0f} MB", flush=True)
    return at


def opened(name: str, **parameters: str) -> AppTest:
    """Open a page without a browser, however long it takes; print what it says went wrong."""
    at = AppTest.from_file(paths.ROOT / "attnviz" / "main.py", default_timeout=3600)
    at.query_params.update(parameters)
    at.run()
    return checked(at.switch_page(f"../pages/{name}.py").run())


def checked(at: AppTest) -> AppTest:
    """The page; what it says went wrong is printed."""
    for said in [*at.exception, *at.error]:
        print(said.value)
    return at


def peak() -> float:
    """The most memory this process has held, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Print answers, or open pages each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="pages; all of them if none is named")
    parser.add_argument("--model", default="vit")
    parser.add_argument("--pages", action="store_true")
    parser.add_argument("--visit", action="store_true")
    parser.add_argument("--size", default="512")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.visit:
        visit(given.size, given.model)
    elif given.here:
        page(given.names[0], given.size, given.model)
    elif given.pages:
        for name in given.names or PAGES:
            asked = ["--here", "--size", given.size, "--model", given.model, name]
            subprocess.run([sys.executable, "-W", "ignore", "-m", "benchmarks.large", *asked], check=False)
    else:
        answers(given.model)


if __name__ == "__main__":
    main()
