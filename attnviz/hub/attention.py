"""Our attention and mask function, under one name in both tables of transformers, and how a network is set to them.

A name that stands among the attention functions alone is given no masks at all, silently; so it stands in both.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, wraps
from typing import Any

import torch
from torch import Tensor, nn

from attnviz.hub.errors import CannotOpen, CannotRecord
from attnviz.hub.masks import ReducedMask, smallest
from attnviz.hub.recorder import ACTIVE, Recorder
from attnviz.hub.structure import Structure

NAME = "attnviz"
HOW_TO_GET = "Models of Hugging Face need transformers: pip install -r requirements-hub.txt"
READ = frozenset({"scaling", "is_causal", "position_bias", "softcap", "s_aux", "sinks"})
HARMLESS = frozenset(  # they say what the mask or the vectors hold already, or ask for more outputs
    {
        "dropout",
        "sliding_window",
        "position_ids",
        "position_embeddings",
        "cache_position",
        "past_key_values",
        "use_cache",
        "output_attentions",
        "output_hidden_states",
        "output_router_logits",
        "return_dict",
        "deterministic",
        "max_length_q",
        "max_length_k",
        "num_items_in_batch",
        "logits_to_keep",
        "interpolate_pos_encoding",
        "resolution",
        "layer_idx",
    }
)
LOCK = threading.RLock()  # one at a time may switch a user's own object


@lru_cache(maxsize=1)
def transformers() -> Any:
    """The library, registered with. Raises CannotOpen where it is not installed."""
    try:
        import transformers as library
        from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
        from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
    except ImportError as error:
        raise CannotOpen(HOW_TO_GET) from error
    ALL_ATTENTION_FUNCTIONS.register(NAME, attention_function)
    ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, mask_function)
    library.logging.set_verbosity_error()
    return library


def attention_function(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """Attention by our own rules, recorded where somebody listens; [batch query head value_dim], and no weights.

    Raises CannotRecord for keywords that say something we do not know: they are never ignored.
    """
    unknown = {name for name, given in options.items() if given is not None and given is not False}
    if unknown := sorted(unknown - READ - HARMLESS):
        raise CannotRecord(f"its attention is given {', '.join(unknown)}, which is not known here")
    if options.get("dropout") and module.training:
        raise CannotRecord("it is in training mode, where dropout changes the weights; call eval() before")
    recorder = ACTIVE.get() or Recorder(Structure((), {}), single=False)
    output = recorder.attend(module, query, key, value, attention_mask, options)
    written = output.transpose(1, 2).contiguous()
    recorder.written = written
    return written, None


def mask_function(
    batch_size: int, q_length: int, kv_length: int, q_offset: Any = 0, kv_offset: int = 0, **options: Any
) -> ReducedMask:
    """What transformers asks for as a mask [batch 1 query key], reduced by blocks of rows."""
    from transformers.masking_utils import sdpa_mask

    options |= {"allow_is_causal_skip": False, "allow_is_bidirectional_skip": False}
    options.pop("dtype", None)

    def rows(start: int, stop: int) -> Tensor:
        found = sdpa_mask(batch_size, stop - start, kv_length, q_offset + start, kv_offset, **options)
        return torch.ones(1, 1, stop - start, kv_length, dtype=torch.bool) if found is None else found

    mask = smallest(rows, int(q_length), int(kv_length))
    return ReducedMask(mask, rows, (batch_size, int(q_length), int(kv_length)), options.get("device", "cpu"))


@contextmanager
def listening(recorder: Recorder) -> Iterator[Recorder]:
    """Record in this context, which is this visitor's alone."""
    token = ACTIVE.set(recorder)
    try:
        yield recorder
    finally:
        ACTIVE.reset(token)


def configurations(network: nn.Module) -> list[Any]:
    """Every configuration that tells layers of a network which attention to call, once.

    Those of families beside the interface are left alone: they would take another name for attention by hand.
    """
    found, apart = {}, set()
    for module in network.modules():
        config = getattr(module, "config", None)
        if hasattr(config, "_attn_implementation_internal"):
            found[id(config)] = config
            if hasattr(module, "_can_set_attn_implementation") and not follows_interface(type(module)):
                apart.add(id(config))
    return [config for id_, config in found.items() if id_ not in apart]


@lru_cache(maxsize=64)
def follows_interface(kind: Any) -> bool:
    """Whether a class of the library calls attention by its name in the table."""
    return bool(kind._can_set_attn_implementation())


class Attached:
    """A network set to our attention, with its layers watched; `detach` leaves it as it was."""

    def __init__(self, network: nn.Module, structure: Structure):
        self.before = [(config, config._attn_implementation_internal) for config in configurations(network)]
        self.forwards: list[tuple[nn.Module, Any]] = []
        for config, _ in self.before:
            config._attn_implementation_internal = NAME
        for layer in dict.fromkeys(layer for stack in structure.stacks for layer in stack.layers):
            self.watch(layer, Recorder.layer)
        if (table := embedding_table(network)) is not None:
            self.watch(table, lambda recorder, module, *rest: recorder.embed(*rest))

    def watch(self, module: nn.Module, through: Callable[..., Any]) -> None:
        """Pass a module's computation through the recorder of the context, if there is one."""
        own = module.__dict__.get("forward")
        forward = module.forward

        @wraps(forward)
        def watched(*args: Any, **kwargs: Any) -> Any:
            recorder = ACTIVE.get()
            return forward(*args, **kwargs) if recorder is None else through(recorder, module, forward, args, kwargs)

        module.forward = watched
        self.forwards.append((module, own))

    def detach(self) -> None:
        """Take everything back."""
        for module, own in reversed(self.forwards):
            if own is None:
                del module.forward
            else:
                module.forward = own
        for config, implementation in self.before:
            config._attn_implementation_internal = implementation


def embedding_table(network: nn.Module) -> nn.Embedding | None:
    """The table of token embeddings; None where there is none."""
    try:
        table = network.get_input_embeddings()  # type: ignore[operator]
    except (AttributeError, NotImplementedError):
        return None
    return table if isinstance(table, nn.Embedding) else None


@contextmanager
def attached(network: nn.Module, structure: Structure) -> Iterator[None]:
    """A user's own object set to our attention for a while, one pass at a time, and then as it was found."""
    with LOCK:
        training = [module for module in network.modules() if module.training]
        there = Attached(network, structure)
        for module in training:
            module.training = False
        try:
            yield
        finally:
            there.detach()
            for module in training:
                module.training = True
