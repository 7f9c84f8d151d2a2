"""Recording any network made of PyTorch, without opening it as a model: `with attnviz.record(network) as calls:`.

Networks of Hugging Face are recorded through our attention function; all else wherever it calls the fused kernel,
`scaled_dot_product_attention`, or `nn.MultiheadAttention`. Attention that multiplies by hand is not seen.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from attnviz.attention import Softmax
from attnviz.hub.attention import attached, listening, transformers
from attnviz.hub.biases import StoredBias
from attnviz.hub.errors import CannotRecord
from attnviz.hub.masks import reduced, split
from attnviz.hub.multihead import through_multihead
from attnviz.hub.probe import check_recorded, outputs_found, running
from attnviz.hub.recorder import Frame, Recorder, named
from attnviz.hub.structure import structure_of
from attnviz.types import AttentionCall, Mask


@contextmanager
def record(network: nn.Module) -> Iterator[list[AttentionCall]]:
    """Record every attention computation of this thread while the context lasts, as calls in their order.

    A batch of one has no axis. The network is in evaluation mode meanwhile, and afterwards as it was found. Output
    projections are filled in when the context ends. Maps are computed when a call is asked for them:
    `calls[3].weights(heads=[0])`. Raises TypeError for what is no module, CannotRecord for attention that cannot be
    recorded truly, and at the end where attention ran that recorded nothing.
    """
    if not isinstance(network, nn.Module):
        raise TypeError(f"expected a torch.nn.Module to record, but got a {type(network).__name__}")
    if "transformers" in sys.modules and isinstance(network, sys.modules["transformers"].PreTrainedModel):
        transformers()
    structure = structure_of(network)
    recorder = Recorder(structure)
    with (
        attached(network, structure),
        outputs_found(structure, recorder),
        running(structure, recorder) as ran,
        listening(recorder),
        KernelMode(recorder),
    ):
        yield recorder.calls
    if ran:
        check_recorded(structure, recorder, ran)
    for i, (call, module) in enumerate(zip(recorder.calls, recorder.modules, strict=True)):
        if (output := structure.outputs.get(module)) is not None and call.projection is None:
            recorder.calls[i] = replace(call, projection=output.by_head(call.heads))


class KernelMode(TorchFunctionMode):
    """Whatever calls the fused kernel while this mode is on is recorded, on this thread only."""

    def __init__(self, recorder: Recorder):
        super().__init__()
        self.recorder = recorder

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the function as it is, and record it where it is attention of somebody else."""
        kwargs = kwargs or {}
        if func is F.multi_head_attention_forward and not self.recorder.busy:
            return through_multihead(self.recorder, func, args, kwargs)
        result = func(*args, **kwargs)
        if func is F.scaled_dot_product_attention and not self.recorder.busy:
            call = kernel_call(self.recorder, *args, **kwargs)
            output = result[0] if call.query.ndim == 3 and result.ndim == 4 else result
            output = output.unsqueeze(-3) if result.ndim == 3 else output
            self.recorder.calls.append(replace(call, output=output, graph=output if output.requires_grad else None))
            self.recorder.modules.append(self.recorder.within[-1] if self.recorder.within else nn.Identity())
        return result


def kernel_call(
    recorder: Recorder,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> AttentionCall:
    """What the fused kernel was given, as a call; vectors of three axes are one head of a batch.

    Raises CannotRecord where dropout changes the weights.
    """
    if dropout_p:
        raise CannotRecord("dropout changes its weights; call eval() before, or give dropout_p=0")
    if query.ndim == 3:
        query, key, value = (tensor.unsqueeze(-3) for tensor in (query, key, value))
    if query.ndim < 4:
        raise CannotRecord(f"vectors of {query.ndim} axes say neither batch nor head; expected [batch head token dim]")
    mask, rest = conditions(attn_mask, is_causal, query.shape[-2], key.shape[-2], query.device)
    if len(query) == 1 and query.ndim == 4:
        query, key, value = query[0], key[0], value[0]
        rest = rest[0] if rest is not None and len(rest) == 1 else rest
    frame = recorder.frames[-1] if recorder.frames else None
    return AttentionCall(
        **placed(recorder, frame, query, key),
        rule=Softmax(),
        query=query,
        key=key,
        value=value,
        scale=query.shape[-1] ** -0.5 if scale is None else scale,
        mask=mask,
        biases=() if rest is None else (("bias", StoredBias(rest)),),
    )


def conditions(
    attn_mask: Tensor | None, is_causal: bool, queries: int, keys: int, device: torch.device
) -> tuple[Mask | None, Tensor | None]:
    """The mask of a kernel call, and what is added to its scores. The kernel's causal flag aligns at the beginning."""
    if is_causal:
        if queries == keys:
            return Mask(causal=True), None
        return Mask(keep=torch.ones(1, queries, keys, dtype=torch.bool, device=device).tril()), None
    if attn_mask is None:
        return None, None
    wide = attn_mask
    while wide.ndim < 4:
        wide = wide[None]
    wide = wide.expand(*wide.shape[:-2], queries, keys)
    return (reduced(wide), None) if wide.dtype == torch.bool else split(wide.detach())


def placed(recorder: Recorder, frame: Frame | None, query: Tensor, key: Tensor) -> dict[str, Any]:
    """The name, layer, branch and tokens of a call."""
    module = recorder.within[-1] if recorder.within else nn.Identity()
    queries, keys = recorder.sides(module, frame, query.shape[-2], key.shape[-2])
    index = len(recorder.calls) if frame is None else frame.index
    name = f"call {index + 1}" if frame is None else named(recorder.structure, module, queries, keys, index, frame)
    branch = 0 if frame is None else frame.branches
    if frame is not None:
        frame.branches += 1
    return {"name": name, "layer": index, "branch": branch, "queries": queries, "keys": keys}
