"""Every variant of VARIANTS from a fixed seed, for the tests that loop over the table."""

from __future__ import annotations

import torch
from torch import Tensor

from attnviz.attention import VARIANTS, Variant
from attnviz.types import AttentionCall, NoTokenMap, Tokens

WIDTH, HEADS = 24, 4
GRID = Tokens.patches(4, 6)
COUNT = len(GRID)


def variant(name: str, dtype: torch.dtype = torch.float64, tokens: Tokens = GRID) -> Variant:
    """A variant initialised from a fixed seed."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return VARIANTS[name](WIDTH, HEADS, tokens=tokens).to(dtype)


def features(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    """Random features [*batch token feature]."""
    return torch.randn(*shape, WIDTH, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def plain(count: int) -> Tokens:
    """Tokens without a grid."""
    return Tokens(tuple(f"t{i}" for i in range(count)))


def token_map(call: AttentionCall) -> Tensor | None:
    """The whole map; None where the rule says, in words, that there is none."""
    if not call.rule.exact:
        try:
            return call.token_map()
        except NoTokenMap:
            return None
    return call.token_map()


def randomised(module: Variant, std: float = 0.3) -> Variant:
    """The module in float64 with random parameters from a fixed seed, so that no table is near zero."""
    generator = torch.Generator().manual_seed(0)
    module = module.double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * std)
    return module
