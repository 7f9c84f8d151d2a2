"""`nn.MultiheadAttention` as a call: its query, key and value are computed as its own function does, and compared."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnviz.hub.errors import CannotRecord

AGREES = 1e-4
SIGNATURE = inspect.signature(F.multi_head_attention_forward)


def through_multihead(recorder: Any, func: Any, args: Any, kwargs: Any) -> Any:
    """Run torch's own multi-head attention, and record what it computed.

    Raises CannotRecord for options that are not known here (bias_k, zero attention, dropout), and where the recorded
    vectors do not give its output.
    """
    from attnviz.hub.record import kernel_call  # it calls this module

    given = SIGNATURE.bind(*args, **kwargs)
    given.apply_defaults()
    asked = given.arguments
    for name in ("bias_k", "bias_v", "static_k", "static_v"):
        if asked[name] is not None:
            raise CannotRecord(f"its multi-head attention has {name}, which is not known here")
    if asked["add_zero_attn"] or (asked["training"] and asked["dropout_p"]):
        raise CannotRecord("its multi-head attention adds zeros or drops weights, which is not known here")
    result = func(*args, **kwargs)
    query, key, value = vectors(asked)
    call = kernel_call(recorder, query, key, value, allowed(asked, query, key))
    output = call.rule.mix(call)
    mixed = (output if output.ndim == 4 else output[None]).permute(2, 0, 1, 3).flatten(-2)  # [token batch feature]
    found = F.linear(mixed, asked["out_proj_weight"], asked["out_proj_bias"])
    found = found.squeeze(1) if asked["query"].ndim == 2 else found
    if (found - result[0]).norm() > AGREES * (1 + result[0].norm()):
        raise CannotRecord("its multi-head attention gives another output than the vectors that were recorded")
    projection = asked["out_proj_weight"].detach().T.unflatten(0, (call.heads, -1))
    recorder.calls.append(replace(call, output=output, projection=projection))
    recorder.modules.append(recorder.within[-1] if recorder.within else nn.Identity())
    return result


def vectors(asked: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key and value [batch head token dim] of features [token batch feature] or [token feature]."""
    streams = [asked[name] for name in ("query", "key", "value")]
    streams = [x[:, None] if x.ndim == 2 else x for x in streams]
    if asked["use_separate_proj_weight"]:
        weights = [asked[f"{name}_proj_weight"] for name in ("q", "k", "v")]
    else:
        weights = asked["in_proj_weight"].chunk(3)
    biases = [None] * 3 if asked["in_proj_bias"] is None else asked["in_proj_bias"].chunk(3)
    made = [F.linear(x, weight, bias) for x, weight, bias in zip(streams, weights, biases, strict=True)]
    heads = [x.unflatten(-1, (asked["num_heads"], -1)).permute(1, 2, 0, 3) for x in made]
    return heads[0], heads[1], heads[2]


def allowed(asked: dict[str, Any], query: Tensor, key: Tensor) -> Tensor | None:
    """Its masks, where True means closed, as one tensor of the fused kernel [batch head|1 query key]."""
    added, padding = asked["attn_mask"], asked["key_padding_mask"]
    if added is not None:
        added = added if added.ndim == 2 else added.unflatten(0, (len(query), -1))
        added = numbers(added, query)
        added = added[None, None] if added.ndim == 2 else added
    if padding is not None:
        padding = numbers(padding if padding.ndim == 2 else padding[None], query)[:, None, None]
        added = padding if added is None else added + padding
    if added is None:
        return None
    return added.expand(*added.shape[:-2], query.shape[-2], key.shape[-2])


def numbers(mask: Tensor, like: Tensor) -> Tensor:
    """A mask as numbers that are added: -inf where it is closed."""
    if mask.dtype != torch.bool:
        return mask.to(like.dtype)
    return torch.zeros(mask.shape, dtype=like.dtype, device=like.device).masked_fill(mask, float("-inf"))
