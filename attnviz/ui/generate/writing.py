"""What the Generate page is about: a prompt, the tokens generated after it, how many are shown, how to sample more.

Generated tokens stand in the address by their ids, so that a link shows the same text on any machine; settings and seed
decide what is generated next.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import streamlit as st
from jaxtyping import Float

from attnviz.measures.fragments import cannot_read
from attnviz.models import TextModel
from attnviz.models.generate import SamplingConfig, continued, filtered, next_token_probabilities, words
from attnviz.models.subwords import EOS
from attnviz.types import Sample, Tokenizer, Trace
from attnviz.ui.core.cache import core, forward, open_model, trace
from attnviz.ui.core.labels import plain
from attnviz.ui.core.state import SEEN, go, keep_inside, set_tokens, whole_number
from attnviz.ui.inputs.sentences import SENTENCES
from attnviz.ui.inputs.text_run import LETTERS, UNREADABLE, prepared_text

NAME = "stories"
# Session keys: the generated tokens, the prompt they belong to, what was asked for.
SAID, OF, REQUEST = "said", "generate:of", "generate:request"
LEFT = "generate:left"  # how many words are still to be generated; lies in SEEN, which a change of page empties
TO_THE_END = 10_000  # words: more than any context holds
SAMPLES = dict(
    zip(("a village", "the fox", "the keys", "a blue shirt", "Tom and Mary"), SENTENCES["stories"], strict=True)
)
DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, eq=False)
class Scene:
    """The text so far and everything one pass over it computed."""

    model: TextModel
    begin: Sample
    generated: tuple[int, ...]  # all generated tokens, those stepped back over included
    step: int  # how many of them are shown
    settings: SamplingConfig
    sample: Sample  # the prompt and the tokens shown
    trace: Trace

    @property
    def ids(self) -> list[int]:
        """The token ids of the text so far, BOS included."""
        return self.sample.inputs["main"].tolist()

    @property
    def full(self) -> bool:
        """Whether the context is full."""
        return len(self.ids) >= self.model.config.context_length

    @property
    def ended(self) -> bool:
        """Whether the text has come to its end."""
        return self.ids[-1] == EOS

    def probabilities(self) -> tuple[Float[np.ndarray, " token"], Float[np.ndarray, " token"]]:
        """The model's probability of every next token, and that after the sampling filters."""
        following = next_token_probabilities(self.trace.logits["word"][-1])
        return following.numpy(), filtered(following, self.settings).numpy()

    def label(self, id: int) -> str:
        """The label of a token if it came next; an ellipsis before it where it continues a word."""
        return continued(self.model, self.sample, [id]).tokens["main"].labels[-1]


def prompt() -> str:
    """The visitor's prompt, in the address."""
    typed, samples = st.columns([3, 2], vertical_alignment="bottom")
    text = typed.text_area("Prompt", SENTENCES[NAME][0], max_chars=LETTERS, key="begin", bind="query-params", height=68)
    with samples, st.container(horizontal=True, gap="xsmall"):
        for name, sample in SAMPLES.items():
            st.button(name, key=f"generate:sample:{name}", help=plain(sample), on_click=go, kwargs={"begin": sample})
    return text or ""


def settings_choice() -> SamplingConfig:
    """How the next token is sampled."""
    first, second = st.columns(2)
    temperature = first.slider(
        "Temperature",
        0.0,
        2.0,
        0.7,
        0.1,
        key="temperature",
        bind="query-params",
        help="Logits are divided by it before the softmax: below 1 the distribution gets sharper, above 1 flatter. "
        "0 is greedy: the likeliest token.",
    )
    why_k = "Sample from the k likeliest tokens only; 0 = all."
    top_k = first.slider("Top-k", 0, 100, 0, key="topk", bind="query-params", help=why_k)
    why_p = "Sample from the likeliest tokens that together reach this probability (nucleus sampling)."
    top_p = second.slider("Top-p", 0.05, 1.0, 0.95, 0.05, key="topp", bind="query-params", help=why_p)
    why_seed = "A new seed samples another continuation; prompt, settings and seed decide it."
    seed = whole_number("Seed", 999, key="dice", where=second, help=why_seed)
    return SamplingConfig(temperature, top_k, top_p, seed)


# What was written ----------------------------------------------------------------------------------------------------
def written(model: TextModel, begin: Sample) -> tuple[int, ...]:
    """The tokens generated after this prompt, from the session or, where it has changed by itself, the address."""
    seen, url = st.session_state.setdefault(SEEN, {}), st.query_params.get(SAID)
    if url is not None if SAID not in seen else url != seen[SAID]:
        st.session_state[SAID] = decoded(url or "", model.tokenizer)
        stop()
    elif st.session_state.get(OF) != begin.digest:
        st.session_state[SAID] = ()
        stop()
        moved()
    st.session_state[OF] = begin.digest
    return tuple(st.session_state[SAID][: model.config.context_length - len(begin.inputs["main"])])


def request(what: str | int) -> None:
    """Ask for so many words, or for one token by its id; done when the page runs again."""
    st.session_state[REQUEST] = what


def going_on() -> bool:
    """Whether more words are asked for than are generated yet."""
    return bool(st.session_state.get(SEEN, {}).get(LEFT))


def stop() -> None:
    """Generate no more of the words that were asked for."""
    st.session_state.get(SEEN, {}).pop(LEFT, None)


def fulfil(model: TextModel, begin: Sample, generated: tuple[int, ...], settings: SamplingConfig) -> tuple[int, ...]:
    """The generated tokens after the visitor's last request, kept in session and address. Raises Busy.

    Of several words one is generated in each run of the page, which shows it and runs again (`again`).
    """
    asked = st.session_state.pop(REQUEST, None)
    if asked is not None:
        st.session_state[SEEN][LEFT] = int(asked) if isinstance(asked, str) else 0
    if asked is not None or going_on():
        step = min(st.session_state.get("pieces", len(generated)), len(generated))
        new = [asked] if isinstance(asked, int) else one_word(model, begin, generated[:step], settings)
        if has_room(model, begin, generated[:step]) and new:
            generated = (*generated[:step], *new)
            move(len(generated))
        else:
            stop()
    if going_on() and not has_room(model, begin, generated):
        stop()
    st.session_state[SAID] = generated
    if not going_on():  # one entry in the history of the browser, not one for every word
        write_said(generated)
    return generated


def one_word(model: TextModel, begin: Sample, generated: tuple[int, ...], settings: SamplingConfig) -> list[int]:
    """The tokens of the next word; then one word less is left, and none where it fails. Raises Busy."""
    left = st.session_state[SEEN].pop(LEFT, 1)
    with core():
        found = words(model, [*begin.inputs["main"].tolist(), *generated], settings, 1)
    st.session_state[SEEN][LEFT] = left - 1
    return found


def has_room(model: TextModel, begin: Sample, generated: Sequence[int]) -> bool:
    """Whether a token can follow: the context is not full, and the text has not ended."""
    ids = [*begin.inputs["main"].tolist(), *generated]
    return len(ids) < model.config.context_length and ids[-1] != EOS


def write_said(generated: tuple[int, ...]) -> None:
    """Say the generated tokens in the address, where it says something else."""
    text = encoded(generated)
    if text != st.query_params.get(SAID, ""):
        if text:
            st.query_params[SAID] = text
        else:
            del st.query_params[SAID]
    st.session_state[SEEN][SAID] = st.query_params.get(SAID)


def encoded(ids: Sequence[int]) -> str:
    """Token ids for an address, each as a number of base 36."""
    return ".".join(np.base_repr(id, 36).lower() for id in ids)


def decoded(text: str, tokenizer: Tokenizer) -> tuple[int, ...]:
    """The token ids of an address up to the first that cannot be one, and at most up to an end of text."""
    found: list[int] = []
    for part in text[:4000].split("."):
        if not re.fullmatch(r"[0-9a-z]{1,4}", part) or (id := int(part, 36)) >= len(tokenizer):
            break
        if id in tokenizer.special_ids and id != EOS:
            break
        found.append(id)
        if id == EOS:
            break
    return tuple(found)


# The step ------------------------------------------------------------------------------------------------------------
def step_choice(count: int) -> int:
    """How many generated tokens are shown, all to begin with: a slider, or one token back and on; nothing for none."""
    keep_inside("pieces", range(count + 1))
    if not count:
        return 0
    with st.container(horizontal=True, vertical_alignment="bottom"):
        now = st.slider("Generated tokens", 0, count, count, key="pieces", bind="query-params", on_change=moved)
        st.button("Back", "generate:back", icon=":material/undo:", disabled=now == 0, on_click=move, args=(now - 1,))
        st.button(
            "Next", "generate:next", icon=":material/redo:", disabled=now == count, on_click=move, args=(now + 1,)
        )
    return now


def move(step: int) -> None:
    """Show another step."""
    go(pieces=step)
    moved()


def moved() -> None:
    """The query is the last token again, not the one that was chosen."""
    set_tokens("asks", ())


def scene(model: TextModel, begin: Sample, generated: tuple[int, ...], step: int, settings: SamplingConfig) -> Scene:
    """The text so far, with its one pass, which is kept unless the text grows at once. Raises DamagedModel, Busy."""
    sample = continued(model, begin, generated[:step])
    found = forward(NAME, sample) if going_on() else trace(NAME, sample)
    return Scene(model, begin, generated, step, settings, sample, found)


def opened(text: str) -> tuple[TextModel, Sample]:
    """The model and the prompt made ready for it. Raises DamagedModel."""
    model = cast(TextModel, open_model(NAME))
    return model, prepared_text(model.digest, hashlib.sha256(text.encode()).hexdigest(), model, text)


def remark(model: TextModel, begin: Sample) -> None:
    """Say so where the model cannot read the prompt."""
    if cannot_read(model.tokenizer, begin.text):
        st.info(UNREADABLE, icon=":material/translate:")


def both_texts(here: Scene) -> tuple[str, str]:
    """The prompt and the text generated after it, whole characters only."""
    begun = here.model.tokenizer.decode(here.begin.inputs["main"].tolist())
    whole = here.model.tokenizer.decode(here.ids)
    return (here.begin.text, whole[len(begun) :]) if whole.startswith(begun) else ("", whole)


def words_written(here: Scene) -> int:
    """How many words were generated."""
    found = here.generated[: here.step]
    return sum(here.model.tokenizer.begins_word(id) for id in found if id != EOS)
