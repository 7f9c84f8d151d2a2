"""`python -m benchmarks.reruns`: what a full rerun of every page costs on the server, in seconds of a processor.

    python -m benchmarks.reruns                      # every page, of a picture and of a text where both exist
    python -m benchmarks.reruns heads positions      # some pages
    python -m benchmarks.reruns --where heads        # and the functions in which the time is spent

A page is opened without a browser at its default input, run twice so that all that is kept is there, and then run again
and again: the median is printed. Counted is what the server does for one rerun, the script and Streamlit's own work
around it, by `time.process_time`; setting up the test and reading its result are not. The share of plotly, with all
that its functions call, is that of another run under a profiler, which slows all calls alike.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import FrameType
from typing import Any
from unittest import mock

from streamlit.runtime.scriptrunner.script_cache import ScriptCache
from streamlit.runtime.scriptrunner.script_runner import ScriptRunner
from streamlit.testing.v1 import AppTest

from attnviz import paths
from attnviz.models import IMAGES, TEXTS

OWN_INPUT = ("translate", "generate", "lesson", "train")  # pages that do not follow the model of the sidebar
PLOTLY = ("/plotly/", "/_plotly_utils/")


class Meter:
    """Seconds of the processor of each run of a script, and how many of them are spent in plotly while `tracing`."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.plotly: list[float] = []
        self.profile: cProfile.Profile | None = None
        self.tracing = False

    def run(self, runner: Any, data: Any) -> None:
        """One run of a script, in place of Streamlit's own method."""
        watched = self.profile or nullcontext()
        hook = PlotlyClock()
        if self.tracing:
            sys.setprofile(hook)
        started = time.process_time()
        try:
            with watched:
                RUN(runner, data)
        finally:
            self.seconds.append(time.process_time() - started)
            if self.tracing:
                sys.setprofile(None)
                self.plotly.append(hook.seconds)


class PlotlyClock:
    """A hook for `sys.setprofile`: seconds in plotly's functions, with all that they call."""

    def __init__(self) -> None:
        self.depth, self.started, self.seconds = 0, 0.0, 0.0

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        if event not in ("call", "return") or not any(part in frame.f_code.co_filename for part in PLOTLY):
            return
        if event == "call":
            self.depth += 1
            if self.depth == 1:
                self.started = time.thread_time()
        elif self.depth:
            self.depth -= 1
            if self.depth == 0:
                self.seconds += time.thread_time() - self.started


RUN = ScriptRunner._run_script


@contextmanager
def metered() -> Iterator[Meter]:
    """Meter every run of a script; compiled scripts are kept from run to run, as a server does."""
    meter, cache = Meter(), ScriptCache()
    with (
        mock.patch.object(ScriptRunner, "_run_script", lambda runner, data: meter.run(runner, data)),
        mock.patch("streamlit.testing.v1.app_test.ScriptCache", return_value=cache),
    ):
        yield meter


def opened(page: str, model: str) -> AppTest:
    """A page of the app at its default input, after two runs of it."""
    at = AppTest.from_file(paths.ROOT / "attnviz" / "main.py", default_timeout=600)
    at.query_params["model"] = model
    at.run()
    own = (paths.PAGES / "text" / f"{page}.py").exists() and model in TEXTS
    at.switch_page(f"../pages/{'text/' if own else ''}{page}.py").run()
    at.run()
    for said in [*at.exception, *at.error]:
        print(f"{page}: {said.value}")
    return at


def measure(page: str, model: str, runs: int, where: bool) -> None:
    """Print one line for a page; below it, with `where`, the functions that take most."""
    with metered() as meter:
        at = opened(page, model)
        meter.seconds.clear()
        for _ in range(runs):
            at.run()
        seconds = statistics.median(meter.seconds)
        meter.seconds.clear()
        meter.tracing = True
        at.run()
        share = meter.plotly[0] / meter.seconds[0]
        figures = len(at.get("plotly_chart"))
        shown = "its own" if page in OWN_INPUT else model
        print(f"| {page} | {shown} | {seconds:.3f} | {100 * share:.0f} % | {figures} |", flush=True)
        if where:
            meter.tracing, meter.profile = False, cProfile.Profile(time.thread_time)
            at.run()
            pstats.Stats(meter.profile).sort_stats("cumulative").print_stats(100)


def main() -> None:
    """Print a table of pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="*", help="pages; all of them if none is named")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--where", action="store_true", help="print the functions in which the time is spent")
    given = parser.parse_args()
    print(f"| page | model | seconds, median of {given.runs} | in plotly | figures |\n|---|---|---|---|---|")
    for page in given.pages or sorted(path.stem for path in paths.PAGES.glob("*.py")):
        models = [next(iter(IMAGES))] if page in OWN_INPUT else [next(iter(IMAGES)), next(iter(TEXTS))]
        for model in models:
            measure(page, model, given.runs, given.where)


if __name__ == "__main__":
    main()
