"""`python -m benchmarks.trace`: what recording costs, for each mask and number of tokens.

Time: one forward of the shipped network's shape that records every call, against the same network's parameters run
without recording through scaled_dot_product_attention; both take turns, the figure is the median of the ratios. The
process keeps the memory it once got, as a server does after its first visitors: what the kernel asks for fresh pages is
no cost of recording.
Memory: the most a fresh process held above what it held before the forward, and what the finished trace keeps.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from attnviz.attention import MultiHead
from attnviz.models.layers import Block
from attnviz.models.vit import ViT, ViTConfig, grid_tokens, patchify
from attnviz.types import AttentionCall, Mask

SIDES = {257: 16, 1025: 32, 2305: 48, 4097: 64}  # tokens: patches a side; one more for CLS
MEGABYTE = 1e6
KEEP_MEMORY = {"MALLOC_TRIM_THRESHOLD_": str(2**30), "MALLOC_MMAP_THRESHOLD_": str(2**30)}  # of glibc, at its start


def keys_kept(count: int) -> Tensor:
    """Three quarters of the keys, the same each time."""
    return torch.rand(count, generator=torch.Generator().manual_seed(0)) > 0.25


def near(count: int, reach: int) -> Tensor:
    """The dense n x n mask of a band."""
    place = torch.arange(count)
    return (place[:, None] - place).abs() <= reach


MASKS: dict[str, tuple[Callable[[int], Mask | None], Callable[[int], dict]]] = {  # ours, and what plain torch is given
    "none": (lambda n: None, lambda n: {}),
    "causal": (lambda n: Mask(causal=True), lambda n: {"is_causal": True}),
    "key_padding": (lambda n: Mask(key_padding=keys_kept(n)), lambda n: {"attn_mask": keys_kept(n)[None, None, None]}),
    "band": (lambda n: Mask(band=64), lambda n: {"attn_mask": near(n, 64)[None, None]}),
    "causal, key_padding": (
        lambda n: Mask(causal=True, key_padding=keys_kept(n)),
        lambda n: {"attn_mask": (torch.ones(n, n, dtype=torch.bool).tril() & keys_kept(n))[None, None]},
    ),
    "groups": (
        lambda n: Mask(groups=(torch.arange(n) % 8, torch.arange(n) % 8)),
        lambda n: {"attn_mask": (torch.arange(n)[:, None] % 8 == torch.arange(n) % 8)[None, None]},
    ),
    "keep (n x n)": (lambda n: Mask(keep=near(n, 64)[None]), lambda n: {"attn_mask": near(n, 64)[None, None]}),
}


def recorded(network: ViT, pixels: Tensor, mask: Mask | None) -> tuple[Tensor, list[AttentionCall], list[Tensor]]:
    """Our forward with a mask: logits, calls and residuals."""
    side = pixels.shape[-1] // network.config.patch
    tokens = grid_tokens(side, side, network.config.prefix)
    residuals = [network.token_embeddings(pixels) + network.position_embeddings(side, side)]
    calls: list[AttentionCall] = []
    for index in range(network.config.layers):
        x, new = network.layer(index, residuals[-1], tokens=tokens, mask=mask)
        residuals.append(x)
        calls.extend(new)
    return network.logits_from(residuals[-1], network.pooling_weights(tokens, residuals[-1])), calls, residuals


def plain(network: ViT, pixels: Tensor, given: dict) -> Tensor:
    """The forward pass of the network in plain torch, which keeps only the residual."""
    side, prefix = pixels.shape[-1] // network.config.patch, network.prefix
    x = torch.cat([prefix, network.embed(patchify(pixels, network.config.patch))]) + network.position_embeddings(
        side, side
    )
    for block in cast(list[Block], list(network.blocks)):
        attention, y = cast(MultiHead, block.attention), block.attention_norm(x)
        query, key, value = (
            project(y).unflatten(-1, (network.config.heads, -1)).transpose(-3, -2)[None]
            for project in (attention.query, attention.key, attention.value)
        )
        mixed = F.scaled_dot_product_attention(query, key, value, **given)
        x = x + attention.out(mixed[0].transpose(-3, -2).flatten(-2))
        x = x + block.mlp(block.mlp_norm(x))
    return network.classify(network.norm(x)[0])


def prepared(tokens: int) -> tuple[ViT, Tensor]:
    """A network of the default shape for a picture of that many tokens, and noise to read."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    size = SIDES[tokens] * ViTConfig().patch
    network = ViT(ViTConfig(size=size)).eval().requires_grad_(False)
    return network, torch.randn(3, size, size)


def timed(run: Callable[[], object]) -> float:
    """Processor seconds of one run: with one thread what a clock shows, but deaf to other programs."""
    start = time.process_time()
    run()
    return time.process_time() - start


def highest() -> float:
    """The most megabytes this process has held so far. Linux keeps it afresh for each program; ru_maxrss does not."""
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / MEGABYTE
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MEGABYTE  # bytes on macOS


def ratio(tokens: int, name: str, runs: int) -> tuple[float, float]:
    """Median seconds of the plain forward, and the median ratio of ours to it. Raises where their answers differ."""
    network, pixels = prepared(tokens)
    ours, given = MASKS[name][0](tokens), MASKS[name][1](tokens)
    difference = (recorded(network, pixels, ours)[0] - plain(network, pixels, given)).abs().max().item()
    if difference > 1e-4:
        raise RuntimeError(f"{name} at {tokens} tokens: answers differ by {difference}")
    pairs = []
    for _ in range(runs):
        first = timed(lambda: plain(network, pixels, given))
        pairs.append((first, timed(lambda: recorded(network, pixels, ours))))
    return statistics.median(p for p, _ in pairs), statistics.median(r / p for p, r in pairs)


def memory(tokens: int, name: str) -> dict[str, float]:
    """Megabytes of one recorded forward in this process, which must be fresh."""
    network, pixels = prepared(tokens)
    mask = MASKS[name][0](tokens)
    before = highest()
    _, calls, residuals = recorded(network, pixels, mask)
    peak = highest() - before
    kept = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in residuals}
    for call in calls:
        kept |= {
            t.untyped_storage().data_ptr(): t.untyped_storage().nbytes()
            for t in (call.query, call.key, call.value, call.output)
            if t is not None
        }
    return {"peak": peak, "kept": sum(kept.values()) / MEGABYTE}


def memory_of(tokens: int, name: str) -> dict[str, float]:
    """Megabytes of one recorded forward, measured in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.trace", "--memory", str(tokens), name]
    plainly = {name: value for name, value in os.environ.items() if name not in KEEP_MEMORY}
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True, env=plainly).stdout)


def main() -> int:
    """Print one row for each mask and number of tokens; the exit status says whether the limits were kept."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.trace", description=__doc__)
    parser.add_argument("--tokens", type=int, nargs="*", choices=list(SIDES), default=list(SIDES))
    parser.add_argument("--masks", nargs="*", choices=list(MASKS), default=list(MASKS))
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--memory", nargs=2, metavar=("TOKENS", "MASK"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.memory and not KEEP_MEMORY.keys() <= os.environ.keys():
        command = [sys.executable, "-m", "benchmarks.trace", *sys.argv[1:]]
        return subprocess.run(command, check=False, env=os.environ | KEEP_MEMORY).returncode
    with torch.no_grad():
        if options.memory:
            sys.stdout.write(json.dumps(memory(int(options.memory[0]), options.memory[1])))
            return 0
        shape = ViTConfig()
        sys.stdout.write(f"{shape.layers} layers, {shape.heads} heads, width {shape.width}, one thread\n\n")
        sys.stdout.write("| mask | tokens | plain ms | recorded / plain | peak MB | peak kB a token | trace MB |\n")
        sys.stdout.write("|---|---|---|---|---|---|---|\n")
        worst = 0.0
        for name in options.masks:
            for tokens in options.tokens:
                seconds, times = ratio(tokens, name, options.runs)
                held = memory_of(tokens, name)
                worst = max(worst, times)
                sys.stdout.write(
                    f"| {name} | {tokens} | {1000 * seconds:.1f} | {times:.2f} | {held['peak']:.0f} "
                    f"| {1000 * held['peak'] / tokens:.1f} | {held['kept']:.1f} |\n"
                )
                sys.stdout.flush()
    sys.stdout.write(f"\nThe largest ratio of times is {worst:.2f}; the limit is 1.10.\n")
    return 0 if worst <= 1.10 else 1


if __name__ == "__main__":
    sys.exit(main())
