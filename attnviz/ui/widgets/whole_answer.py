"""The answer a model gives for its whole input: which of its outputs it is, and what its labels are called."""

from __future__ import annotations

from attnviz.models.text import WORD
from attnviz.ui.inputs.model_run import ModelRun
from attnviz.ui.widgets.answers import CLASS, class_name


def answer_of(run: ModelRun) -> tuple[str, int] | None:
    """The output that answers for the whole input, and its row; the next word of a decoder. None without.

    An encoder that fills in hidden words answers for each place alone, so its last one is no answer.
    """
    for output in run.model.outputs:
        if run.trace.logits[output].shape[-2] == 1:
            return output, 0
    return (WORD, -1) if WORD in run.model.outputs and run.model.spec.causal else None


def label_of(run: ModelRun, output: str, index: int) -> str:
    """What one label of an output is called."""
    if output == CLASS and len(run.model.superclasses):
        return class_name(run.model, index)
    return run.model.outputs[output][index]
