"""How large an input may be that is changed: every change is another pass of the model, and a look at whole maps."""

from __future__ import annotations

from attnviz.ui.core.budget import TooLarge
from attnviz.ui.inputs.model_run import ModelRun

MOST = 1_100  # tokens
TOO_LARGE = (
    "Every change runs the model again, many times over, so an input of at most {most:,} tokens can be changed; this "
    "one has {tokens:,}. Choose 128 px or less as input size in the sidebar. The logit lens takes any size."
)


def check(about: ModelRun) -> None:
    """Refuse an input whose changes would take minutes each, before anything is computed. Raises TooLarge."""
    tokens = max(map(len, about.sample.tokens.values()))
    if tokens > MOST:
        raise TooLarge(TOO_LARGE.format(most=MOST, tokens=tokens))
