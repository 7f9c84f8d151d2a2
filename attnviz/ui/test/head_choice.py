"""Which heads are ablated how, and whose change is measured."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from attnviz.types import Target
from attnviz.ui.core.labels import head_name, layer_name
from attnviz.ui.inputs.model_run import ModelRun
from attnviz.ui.widgets.whole_answer import label_of

ZERO, MEAN = "zero", "mean"  # what an ablated head gives, in addresses


@dataclass(frozen=True, eq=False)
class Choice:
    """What is ablated how, and whose change is measured."""

    about: ModelRun
    target: Target
    means: Tensor | None
    ablation: str  # its identifier

    @property
    def key(self) -> tuple[object, ...]:
        """What results depend on."""
        return self.about.model.digest, self.about.sample.digest, self.target, self.ablation

    @property
    def label(self) -> str:
        """What the measured answer is called."""
        return label_of(self.about, str(self.target.output), self.target.label or 0)

    def head(self, index: int) -> tuple[int, int]:
        """Layer and head of one number."""
        layer, head = divmod(index, self.about.model.spec.heads)
        return layer, head

    def name(self, layer: int, head: int) -> str:
        """A head in words."""
        return f"{layer_name(layer)}, {head_name(head).lower()}"
