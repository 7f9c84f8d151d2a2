"""`python -m benchmarks.interventions`: how much faster batches of edits are than one pass for each edit.

Both take turns in one run, with one thread and on processor time; the figure is the median of the ratios. What can be
saved on one processor is arithmetic: layers before the changed one, and the attention of the changed one, are computed
once for all. "layers" says how many fewer layers that are. Removing a token changes the first layer already, so there
only what surrounds the arithmetic is saved.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

import attnviz
from attnviz.interventions import ablate, answers, remove
from attnviz.paths import ROOT
from attnviz.types import Edit, Model, Sample


def seconds(run: Callable[[], object]) -> float:
    """Processor seconds of one run: with one thread what a clock shows, but deaf to other programs."""
    start = time.process_time()
    run()
    return time.process_time() - start


def opened(name: str) -> Model:
    """A shipped model on the processor."""
    return attnviz.load(name, device="cpu")


def one_by_one(model: Model, sample: Sample, edit: Edit) -> torch.Tensor:
    """The logits of every edit of a batch, each from a pass of its own."""
    found = [model(sample, edit=edit.pick(torch.tensor([i]))).logits["class"][0] for i in range(edit.batch[0])]
    return torch.stack(found)


def compare(name: str, model: Model, sample: Sample, edit: Edit, runs: int) -> str:
    """One line of the table. Raises RuntimeError where the two give different answers."""
    difference = float((answers(model, sample, edit) - one_by_one(model, sample, edit)).abs().max())
    if difference > 1e-3:
        raise RuntimeError(f"{name}: the answers differ by {difference}")
    pairs = []
    for _ in range(runs):
        alone = seconds(lambda: one_by_one(model, sample, edit))
        pairs.append((alone, seconds(lambda: answers(model, sample, edit))))
    ratio = statistics.median(alone / together for alone, together in pairs)
    layers = model.spec.layers
    ran = float((layers - edit.first_layer().clamp(max=layers)).sum())
    batched = statistics.median(together for _, together in pairs)
    saved = edit.batch[0] * layers / ran
    return f"{name:28}{edit.batch[0]:6}{batched:12.2f}{ratio:10.2f}{saved:10.2f}"


@torch.no_grad()
def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    runs = parser.parse_args().runs
    torch.set_num_threads(1)
    model = opened("vit")
    sample = model.prepare(ROOT / "assets" / "samples" / "vit" / "espresso.jpg")
    spec, tokens = model.spec, sample.tokens["main"]
    heads = [[(layer, head)] for layer in range(spec.layers) for head in range(spec.heads)]
    print(f"{'':28}{'edits':>6}{'batched s':>12}{'ratio':>10}{'layers':>10}")
    print(compare("one head ablated", model, sample, ablate(model, *heads), runs))
    patches = [[token] for token in range(tokens.prefix, len(tokens))]
    print(compare("one patch removed", model, sample, remove(sample, *patches), runs))


if __name__ == "__main__":
    main()
