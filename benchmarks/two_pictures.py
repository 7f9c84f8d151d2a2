"""How well patches of one sample picture match those of another: `python -m benchmarks.two_pictures`.

The subject of a picture is taken to be the 48 of 256 patches that CLS attends to most in the last two layers. Printed
is how often the best match of a patch of the subject lies in the other's subject, and how often that of another patch
does, for the direction in which they differ less. `--layer` and `--head` name a head; without `--head`, cosines after a
layer.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterable

import numpy as np
import torch

from attnviz.measures.matches import cross_cosines, cross_weights
from attnviz.types import Model, Trace
from attnviz.ui.core.cache import open_model
from attnviz.ui.inputs.samples import SAMPLES, open_sample

SUBJECT = 48  # patches
Row = tuple[float, float, float, str, str]  # the smaller difference, shares from the subject and else, both names


def traces(model: Model, name: str) -> dict[str, Trace]:
    """A pass over every sample picture of a model."""
    with torch.no_grad():
        return {sample: model(model.prepare(open_sample(name, sample).image)) for sample in SAMPLES[name]}


def subject(trace: Trace) -> np.ndarray:
    """Whether each patch is among those that CLS attends to most in the last two layers: bool [patch]."""
    first = trace.calls[-1].keys.prefix
    weights = torch.stack([call.token_map(None, [0])[:, 0, first:].mean(0) for call in trace.calls[-2:]]).mean(0)
    inside = np.zeros(len(weights), bool)
    inside[weights.topk(SUBJECT).indices.numpy()] = True
    return inside


def hits(matches: np.ndarray, own: np.ndarray, others: np.ndarray) -> tuple[float, float]:
    """How often a best match [query key] lies in the other's subject: from this one's subject, and from elsewhere."""
    found = others[matches.argmax(1)]
    return float(found[own].mean()), float(found[~own].mean())


def by_head(one: Trace, other: Trace, layer: int, head: int) -> tuple[np.ndarray, np.ndarray]:
    """What a head's queries would attend to in the other picture, both ways."""
    first, second = one.calls[layer], other.calls[layer]
    return cross_weights(first, second, head), cross_weights(second, first, head)


def by_features(one: Trace, other: Trace, layer: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosines of the residual after a layer (0: before the first), both ways."""
    first = one.calls[0].keys.prefix
    found = cross_cosines(*(trace.residuals["main"][layer][first:].float().numpy() for trace in (one, other)))
    return found, found.T


def compared(found: dict[str, Trace], layer: int, head: int | None) -> Iterable[Row]:
    """Every two pictures, those first in which subjects match each other most."""
    inside = {name: subject(trace) for name, trace in found.items()}
    rows = []
    for one, other in itertools.combinations(found, 2):
        there, back = (
            by_features(found[one], found[other], layer)
            if head is None
            else by_head(found[one], found[other], layer - 1, head - 1)
        )
        both = hits(there, inside[one], inside[other]), hits(back, inside[other], inside[one])
        least = min(both, key=lambda pair: pair[0] - pair[1])
        rows.append((least[0] - least[1], *least, one, other))
    return sorted(rows, reverse=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="vit")
    parser.add_argument("--layer", type=int)
    parser.add_argument("--head", type=int)
    parser.add_argument("--rows", type=int, default=12)
    given = parser.parse_args()
    torch.set_num_threads(1)
    model = open_model(given.model)
    found = traces(model, given.model)
    layers = range(len(found[next(iter(found))].calls) + 1) if given.layer is None else [given.layer]
    for layer in layers:
        for gap, subject_share, else_share, one, other in list(compared(found, layer, given.head))[: given.rows]:
            shares = f"{subject_share:.0%} of the subject, {else_share:.0%} else"
            print(f"layer {layer}: {one} and {other}: {shares} ({gap:+.2f})")


if __name__ == "__main__":
    main()
