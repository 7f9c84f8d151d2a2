"""Rollout of one target as a row vector, against the dense product of stored weights that others compute.

    python -m benchmarks.rollout            # 197, 785 and 3137 tokens, 12 layers x 12 heads, float32

"Reference" has every layer's weights at hand, fuses them over heads (and drops the smallest 90 % of the flattened map
by top-k, where asked) and multiplies n x n matrices. Ours is measured twice: with the weights given, and with nothing
but query and key, as a trace keeps them; then the attention itself, which "reference" was given, is part of the time.
Only one layer's weights are made and used for all twelve, so that the reference fits into memory; what it would store
is printed.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from attnviz.attention import Softmax
from attnviz.methods.rollout import relevance
from attnviz.types import AttentionCall, Tokens, Trace

LAYERS, HEADS, DIM = 12, 12, 64


@dataclass(frozen=True)
class Stored(Softmax):
    """Softmax weights that were computed before [head query key]."""

    array: Tensor | None = None

    def token_map(self, call: AttentionCall, heads: list[int], rows: list[int]) -> Tensor:
        """A block of the stored weights; rows of a block are neighbours, so nothing is copied."""
        if self.array is None:
            raise ValueError("no weights were stored")
        return self.array[:, rows[0] : rows[-1] + 1]


def trace_of(size: int, given: bool) -> Trace:
    """Twelve layers over random queries and keys; with weights stored where `given`."""
    side = round((size - 1) ** 0.5)
    tokens = Tokens.patches(side, side, ("CLS",))
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(HEADS, size, DIM, generator=generator) for _ in range(3))
    rule = Softmax()
    parts = query, key, value, tokens, tokens, DIM**-0.5
    calls = [AttentionCall(f"layer {i + 1}", i, rule, *parts) for i in range(LAYERS)]
    if given:
        weights = torch.cat([calls[0].token_map(rows=rows) for rows in calls[0].blocks()], -2)
        stored = Stored(array=weights)
        calls = [replace(call, rule=stored) for call in calls]
    pooling = torch.zeros(size)
    pooling[0] = 1
    return Trace(None, {}, {}, tuple(calls), {}, {"main": pooling}, {})


def reference(weights: Tensor, fusion: str, discard: float) -> Tensor:
    """The usual dense rollout matrix from stored weights, rows rightly normalised."""
    size = weights.shape[-1]
    product = torch.eye(size)
    for _ in range(LAYERS):
        fused = weights.mean(0) if fusion == "mean" else weights.amax(0)
        if discard:
            fused = fused.clone().flatten()
            fused[fused.topk(int(discard * fused.numel()), largest=False, sorted=False).indices] = 0
            fused = fused.view(size, size)
        factor = (fused + torch.eye(size)) / 2
        product = factor / factor.sum(-1, keepdim=True) @ product
    return product


def seconds(run: Callable[[], object], repeats: int) -> float:
    """The median time of a call, after one call to warm up where there are several."""
    if repeats > 1:
        run()
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        found.append(time.perf_counter() - start)
    return statistics.median(found)


def peak() -> float:
    """The largest memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(size: int, repeats: int) -> None:
    """Print one line per setting for this many tokens."""
    bare = trace_of(size, given=False)
    before = peak()
    first = relevance(bare)["main"]
    grown = peak() - before
    given = trace_of(size, given=True)
    rule = given.calls[0].rule
    weights = rule.array if isinstance(rule, Stored) and rule.array is not None else torch.empty(0)
    stored = LAYERS * HEADS * size * size * 4 / 2**30
    error = float((first - reference(weights, "mean", 0)[0]).abs().max())
    print(
        f"\n{size} tokens: the reference stores {stored:.2f} GiB; our row from query and key added {grown:.0f} MB to "
        f"the peak; largest difference {error:.0e}"
    )
    for fusion, discard in (("mean", 0.0), ("max", 0.9)):
        dense = seconds(lambda f=fusion, d=discard: reference(weights, f, d), repeats)
        row = seconds(lambda f=fusion, d=discard: relevance(given, fusion=f, discard=d), repeats)
        blocks = seconds(lambda f=fusion, d=discard: relevance(bare, fusion=f, discard=d), repeats)
        print(
            f"  {fusion:4} discard {discard:.1f}: reference {1e3 * dense:7.0f} ms | ours, weights given "
            f"{1e3 * row:6.0f} ms ({dense / row:4.1f} x) | from query and key {1e3 * blocks:6.0f} ms "
            f"({dense / blocks:4.1f} x)",
            flush=True,
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the sizes asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tokens", type=int, nargs="*", default=[197, 785, 3137])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    print(f"{LAYERS} layers x {HEADS} heads, float32, {options.threads} thread(s), torch {torch.__version__}")
    for size in options.tokens:
        measure(size, options.repeats if size < 2000 else 1)


if __name__ == "__main__":
    main()
