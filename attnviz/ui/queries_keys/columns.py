"""What every query has for one key, where whole maps are too large: from that key's vector wherever it is enough."""

from __future__ import annotations

import numpy as np
import streamlit as st
import torch
from jaxtyping import Float

from attnviz.attention.rules.softmax import Softmax
from attnviz.measures.blocks import column
from attnviz.measures.pairs import STAGES
from attnviz.types import AttentionCall, Stage, block_size
from attnviz.ui.core.cache import core

KEPT: dict[str, Stage] = {name: name for name in STAGES}


@st.cache_data(max_entries=64, show_spinner="Asking every query about this key")
def column_of(
    model_digest: str, sample_digest: str, layer: int, head: int, stage: str, key: int, _call: AttentionCall
) -> Float[np.ndarray, " query"]:
    """What every query has for one key at a stage."""
    if stage == "cosine" or (stage in ("raw", "scaled") and type(_call.rule) is Softmax):
        return from_key(_call, head, key, stage)
    if stage == "weights" and plain(_call):
        sums = log_sums(model_digest, sample_digest, layer, head, _call)
        return np.exp(from_key(_call, head, key, "scaled") - sums)
    with core():
        if stage == "weights":
            return column(_call, key, lambda rows: _call.token_map([head], rows)[0])
        return column(_call, key, lambda rows: _call.scores([head], rows, KEPT[stage])[0])


def plain(call: AttentionCall) -> bool:
    """Whether a weight is e^(scaled score) over the sum of those of its query: no biases, no mask, no other rule."""
    return type(call.rule) is Softmax and not call.biases and call.mask is None


def from_key(call: AttentionCall, head: int, key: int, stage: str) -> Float[np.ndarray, " query"]:
    """Dot products, scaled or not, or cosines of every query with one key: no row is computed."""
    alone = call.key[call.kv_heads_of([head])[0], key].float()
    query = call.query[head].float()
    if stage == "cosine":
        query, alone = (torch.nn.functional.normalize(vectors, dim=-1) for vectors in (query, alone))
    dots = query @ alone
    return (dots * call.scale_of([head]) if stage == "scaled" else dots).flatten().cpu().numpy()


@st.cache_data(max_entries=64, show_spinner="Adding up the scores of every query")
def log_sums(
    model_digest: str, sample_digest: str, layer: int, head: int, _call: AttentionCall
) -> Float[np.ndarray, " query"]:
    """The logarithm of the sum of e^score over the keys, of every query: with it, any column costs one vector."""
    with core():
        blocks = _call.blocks(block_size(1, len(_call.keys)))
        found = [_call.scores([head], rows)[0].logsumexp(-1) for rows in blocks]
    return torch.cat(found).float().cpu().numpy()
