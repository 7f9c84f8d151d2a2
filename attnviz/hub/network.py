"""A network of Hugging Face, checked by one small pass, and how it is run: recorded, edited, or with layers skipped."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from attnviz.hub.attention import Attached, attached, embedding_table, listening
from attnviz.hub.errors import CannotOpen, CannotRecord
from attnviz.hub.probe import TOLERANCE, check_recorded, outputs_found, relative_difference, running
from attnviz.hub.recorder import Recorder
from attnviz.hub.structure import structure_of
from attnviz.types import AttentionCall, at_least_float32

ROUNDED = 3e-2  # how far two passes in half precision may differ
SAMPLED = 512  # entries of each parameter that a digest of an object reads


class HubNetwork:
    """A network whose one small pass, recorded, has given what it gives by itself."""

    def __init__(self, module: nn.Module, inputs: Mapping[str, Tensor], *, own: bool):
        """Check a network on small inputs. `own`: it was opened here, and is set to our attention for good.

        Raises CannotRecord where its attention is not recorded, or the recorded pass gives another answer.
        """
        self.module, self.own = module, own
        self.structure = structure_of(module)
        self.accepts = frozenset(inspect.signature(module.forward).parameters)
        if not self.structure.attention:
            raise CannotRecord("it has no attention; choose a transformer")
        if own:
            module.eval().requires_grad_(False)
        expected = self.native(inputs)
        if own:
            Attached(module, self.structure)
        self.first = self.checked(inputs, expected)
        (self.stream, self.depth), *others = self.first.counts.items() or [("main", 0)]
        if others or self.stream != "main":
            raise CannotRecord(
                f"it has {len(self.structure.stacks)} stacks of layers ({', '.join(self.first.counts)}), which pages "
                "cannot follow; `with attnviz.record(model) as calls:` records it"
            )
        self.width = self.first.residuals["main"][0].shape[-1]
        if any(x.shape != self.first.residuals["main"][0].shape for x in self.first.residuals["main"]):
            raise CannotRecord("its layers do not all have the same tokens; attnviz.record(model) records it")
        if {call.layer for call in self.calls} != set(range(self.depth)):
            raise CannotRecord("not all of its layers have attention; attnviz.record(model) records those that do")
        if len({call.heads for call in self.calls}) != 1:
            raise CannotRecord("its layers have different numbers of heads; attnviz.record(model) records it")
        table = embedding_table(module)
        self.content_enters = table is None or table.embedding_dim != self.width

    @property
    def calls(self) -> list[AttentionCall]:
        """The calls of the first pass."""
        return self.first.calls

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(self.module.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """How precise its numbers are."""
        return next(p.dtype for p in self.module.parameters() if p.is_floating_point())

    @torch.no_grad()
    def native(self, inputs: Mapping[str, Tensor]) -> Any:
        """What the network gives by itself. Raises CannotOpen where it cannot read such inputs."""
        training = [module for module in self.module.modules() if module.training]
        try:
            for module in training:
                module.training = False
            return answer_of(self.module(**self.arguments(inputs)))
        except (TypeError, ValueError, RuntimeError, IndexError, AttributeError) as error:
            wanted = ", ".join(sorted(inputs))
            raise CannotOpen(
                f"{type(self.module).__name__} cannot read {wanted} alone ({one_sentence(error)}); "
                "attnviz.record(model) records whatever it is given"
            ) from error
        finally:
            for module in training:
                module.training = True

    @torch.no_grad()
    def checked(self, inputs: Mapping[str, Tensor], expected: Tensor) -> Recorder:
        """The recorder of a pass that gives what is expected, in which all attention was recorded."""
        recorder = Recorder(self.structure, single=True)
        with (
            self.attached(),
            outputs_found(self.structure, recorder),
            running(self.structure, recorder) as ran,
            listening(recorder),
        ):
            found = answer_of(self.module(**self.arguments(inputs)))
        check_recorded(self.structure, recorder, ran)
        half = self.dtype in (torch.float16, torch.bfloat16)
        if (apart := relative_difference(found, expected)) > (ROUNDED if half else TOLERANCE):
            raise CannotRecord(f"recorded, it gives another answer than by itself (they differ by {apart:.1%})")
        return recorder

    def attached(self) -> AbstractContextManager[None]:
        """A context in which the network is set to our attention."""
        return nullcontext() if self.own else attached(self.module, self.structure)

    def run(self, recorder: Recorder, inputs: Mapping[str, Tensor]) -> Any:
        """One forward pass that the recorder watches."""
        with self.attached(), listening(recorder):
            return self.module(**self.arguments(inputs))

    def arguments(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """What the network is called with: without a cache, as a record of outputs."""
        named = {"use_cache": False, "return_dict": True}
        return {**inputs, **{name: value for name, value in named.items() if name in self.accepts}}

    def digest(self) -> str:
        """sha256 of the configuration and of a sample of every parameter, whatever their precision."""
        total = hashlib.sha256(str(getattr(self.module, "config", "")).encode())
        for name, tensor in sorted(self.module.state_dict().items()):
            flat = tensor.detach().flatten()
            sample = flat[:: max(1, len(flat) // SAMPLED)].double().cpu()
            total.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode() + sample.numpy().tobytes())
        return total.hexdigest()


def answer_of(result: Any) -> Tensor:
    """What two passes are compared by: the logits, else the last hidden state."""
    for name in ("logits", "last_hidden_state"):
        if isinstance(found := getattr(result, name, None), Tensor):
            return at_least_float32(found)
    first = result[0] if isinstance(result, tuple) or hasattr(result, "keys") else result
    if isinstance(first, Tensor):
        return at_least_float32(first)
    raise CannotRecord("it gives neither logits nor a hidden state; open the part that does")


def one_sentence(error: Exception) -> str:
    """The first line of somebody else's message, not too long."""
    text = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return text if len(text) <= 160 else text[:157] + "..."
