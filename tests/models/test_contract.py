"""The contract of `Model`, for every shipped model and for models that are none of ours.

A page knows nothing else of a model, so what a model says of itself has to be what it does.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple, get_args

import pytest
import torch
from PIL import Image

import attnviz
from attnviz.edits import BlockedEdges, Edit, PatchedResiduals, head_flags, token_flags
from attnviz.models import MODELS
from attnviz.types import CONTINUATION, Model, Request, Sample, Tokenizer, Tokens, Trace, UnsupportedMask
from tests.foreign import foreign_models

FOREIGN = foreign_models()
PLAIN = "the old man was not at home, she said."
REQUESTS: tuple[Request, ...] = get_args(Request)


class Case(NamedTuple):
    """A model, an input and what it recorded."""

    model: Model
    sample: Sample
    trace: Trace


@pytest.fixture(scope="module", params=[*MODELS, *FOREIGN])
def case(request: pytest.FixtureRequest) -> Case:
    """Every model once."""
    name: str = request.param
    model: Any = FOREIGN[name].model if name in FOREIGN else attnviz.load(name)
    sample = model.prepare(Image.linear_gradient("L") if model.spec.modality == "image" else PLAIN)
    with torch.no_grad():
        return Case(model, sample, model(sample))


def stream_of(case: Case) -> str:
    """The stream of what was given, which is not what was written."""
    return next(iter(case.sample.tokens))


def tokenizer_of(case: Case) -> Tokenizer:
    """The vocabulary; a test of it is skipped where there is none."""
    if case.model.tokenizer is None:
        pytest.skip("it has no vocabulary")
    return case.model.tokenizer


def test_it_is_a_model(case: Case) -> None:
    assert isinstance(case.model, Model)
    assert case.model.digest
    assert case.model.title
    assert case.model.tokenizer is None or isinstance(case.model.tokenizer, Tokenizer)
    assert len(case.model.superclasses) in (0, len(case.model.outputs.get("class", ())))


def test_its_layers_heads_and_width_are_those_it_records(case: Case) -> None:
    spec, trace = case.model.spec, case.trace
    assert {call.layer for call in trace.calls} == set(range(spec.layers))
    assert {call.heads for call in trace.calls} == {spec.heads}
    assert {x.shape[-1] for x in trace.token_embeddings.values() if x is not None} == {spec.width}
    assert all(layer < spec.layers and head < spec.heads for layer, head in spec.supervised_heads)


def test_it_is_causal_where_it_says_so(case: Case) -> None:
    stream = stream_of(case)
    inside = [call for call in case.trace.calls if call.queries.stream == call.keys.stream == stream]
    later = [call.token_map().triu(1).abs().sum() for call in inside]
    assert all((weight == 0) == case.model.spec.causal for weight in later)


def test_its_grid_is_that_of_its_patches(case: Case) -> None:
    spec, tokens = case.model.spec, case.sample.tokens[stream_of(case)]
    if spec.modality != "image":
        assert (spec.patch_size, spec.input_size, tokens.grid) == (None, None, None)
        return
    assert spec.input_size is not None
    assert spec.patch_size is not None
    assert tuple(case.sample.inputs["main"].shape[-2:]) == spec.input_size
    assert tokens.grid == tuple(side // spec.patch_size for side in spec.input_size)
    assert case.sample.image is not None
    assert case.sample.image.size == spec.input_size[::-1]


def test_it_reads_no_more_than_its_context_length(case: Case) -> None:
    model, stream, longest = case.model, stream_of(case), case.model.spec.context_length
    if longest is None:
        pytest.skip("it has no fixed length")
    cut = model.prepare(f"{PLAIN} " * 200)
    assert len(cut.inputs[stream]) == len(cut.tokens[stream]) == longest
    assert cut.cut
    assert not case.sample.cut
    longer = torch.cat([cut.inputs[stream], cut.inputs[stream][-1:]])
    tokens = cut.tokens[stream]
    words = None if tokens.words is None else (*tokens.words, -1)
    wide = Tokens((*tokens.labels, "?"), None, tokens.prefix, tokens.stream, words)
    with pytest.raises(ValueError, match=str(longest)):
        model(replace(cut, inputs={stream: longer}, tokens={stream: wide}))


@pytest.mark.parametrize("asked", REQUESTS)
def test_it_honours_what_it_says_and_refuses_the_rest(case: Case, asked: Request) -> None:
    edit = changes(case)[asked]
    assert edit.requests == {asked}
    if asked not in case.model.spec.honours:
        with pytest.raises(UnsupportedMask):
            case.model(case.sample, edit=edit)
        return
    with torch.no_grad():
        changed = case.model(case.sample, edit=edit)
    assert changed.calls
    stream = next(iter(case.trace.pooling))
    assert not torch.equal(changed.residuals[stream][-1], case.trace.residuals[stream][-1])


@pytest.mark.parametrize("asked", REQUESTS)
def test_a_batch_of_edits_is_each_of_them_alone(case: Case, asked: Request) -> None:
    """The second of the batch changes nothing, but for positions, which are one thing for all."""
    if asked not in case.model.spec.honours or asked == "positions":
        pytest.skip("it has no such batch")
    edit = changes(case)[asked]
    unchanged = {"keep_tokens": lambda t: t | True, "embeddings": lambda t: plain_embeddings(case)}

    def both(name: str, tensor: torch.Tensor | None) -> torch.Tensor | None:
        if tensor is None or name == "residuals.values":
            return tensor
        return torch.stack([tensor, unchanged.get(name, torch.zeros_like)(tensor)])

    with torch.no_grad():
        trace, alone = case.model(case.sample, edit=edit.mapped(both)), case.model(case.sample, edit=edit)
    for stream, residuals in trace.residuals.items():
        if residuals[-1].ndim == 3:  # a translator's source may have no batch
            torch.testing.assert_close(residuals[-1][0], alone.residuals[stream][-1], atol=2e-5, rtol=1e-4)
            torch.testing.assert_close(residuals[-1][1], case.trace.residuals[stream][-1], atol=2e-5, rtol=1e-4)
    for call in trace.calls:
        assert call.query.shape[:-3] == call.output.shape[:-3] == (2,)  # type: ignore[union-attr]
    for name, logits in trace.logits.items():
        torch.testing.assert_close(logits[0], alone.logits[name], atol=2e-5, rtol=1e-4)
        torch.testing.assert_close(logits[1], case.trace.logits[name], atol=2e-5, rtol=1e-4)


def plain_embeddings(case: Case) -> torch.Tensor:
    """The token embeddings of what was given."""
    found = case.trace.token_embeddings[stream_of(case)]
    assert found is not None
    return found


def changes(case: Case) -> dict[Request, Edit]:
    """One edit for each request."""
    spec, count = case.model.spec, len(case.sample.tokens[stream_of(case)])
    keep, second = ~token_flags(count, [1]), token_flags(count, [1])
    content = case.trace.token_embeddings[stream_of(case)]
    residuals = torch.zeros(spec.layers + 1, count, spec.width)
    where = torch.zeros(spec.layers + 1, count, dtype=torch.bool)
    where[0, 1] = True
    return {
        "embeddings": Edit(embeddings=None if content is None else content * 0.5),
        "keep_tokens": Edit(keep_tokens=keep),
        "positions": Edit(positions="none"),
        "ablated_heads": Edit(ablated_heads=head_flags(spec.layers, spec.heads, [(0, 0)])),
        "blocked_edges": Edit(blocked_edges=BlockedEdges(keep | True, second)),
        "residuals": Edit(residuals=PatchedResiduals(residuals, where)),
    }


def test_its_outputs_are_its_logits(case: Case) -> None:
    found = {name: logits.shape[-1] for name, logits in case.trace.logits.items()}
    assert found == {name: len(labels) for name, labels in case.model.outputs.items()}
    assert all(torch.isfinite(logits).all() for logits in case.trace.logits.values())


def test_its_pooling_sums_to_one(case: Case) -> None:
    for pooling in case.trace.pooling.values():
        assert float(pooling.sum()) == pytest.approx(1, abs=1e-6)


def test_special_tokens_stand_for_no_text(case: Case) -> None:
    tokenizer, stream = tokenizer_of(case), stream_of(case)
    assert len(set(tokenizer.special.values())) == len(tokenizer.special)
    assert set(tokenizer.special.values()) <= tokenizer.special_ids <= set(range(len(tokenizer)))
    assert tokenizer.decode(sorted(tokenizer.special_ids)) == ""
    assert not any(tokenizer.begins_word(id) for id in tokenizer.special_ids)
    tokens, ids = case.sample.tokens[stream], case.sample.inputs[stream].tolist()
    assert tokens.words is not None
    assert [word == -1 for word in tokens.words] == [id in tokenizer.special_ids for id in ids]
    special = [(label, id) for label, id in zip(tokens.labels, ids, strict=True) if id in tokenizer.special_ids]
    assert all(label == tokenizer.label(id) for label, id in special)


def test_a_text_comes_back_from_its_tokens(case: Case) -> None:
    tokenizer = tokenizer_of(case)
    found = tokenizer.encode(PLAIN)
    assert tokenizer.decode([token.id for token in found]) == PLAIN
    end = 0
    for token in found:
        assert end <= token.start < token.stop
        assert not PLAIN[end : token.start].strip()  # nothing lies between tokens but spaces
        assert token.label.removeprefix(CONTINUATION) == PLAIN[token.start : token.stop].strip()
        end = token.stop
    assert not PLAIN[end:].strip()
    assert [token.word for token in found] == sorted(token.word for token in found)
    written = list(tokenizer.written([token.id for token in found]))
    assert [label for label, _ in written] == [token.label for token in found]
    assert [label.startswith(CONTINUATION) for label, _ in written] == [inside for _, inside in written]


def test_a_token_enters_as_its_row_of_the_embeddings(case: Case) -> None:
    table, stream = case.model.input_embeddings, stream_of(case)
    assert (table is None) == (case.model.spec.modality == "image")
    if table is not None:
        torch.testing.assert_close(table[case.sample.inputs[stream]], case.trace.token_embeddings[stream])
        assert table.shape[-1] == case.model.spec.width
        assert case.model.tokenizer is None or len(table) == len(case.model.tokenizer)


def test_a_patch_enters_by_the_projection(case: Case) -> None:
    if case.model.patch_projection is None:
        pytest.skip("it has no such projection")
    weight, bias = case.model.patch_projection
    tokens, side, found = case.sample.tokens["main"], case.model.spec.patch_size, case.trace.token_embeddings["main"]
    assert tokens.grid is not None
    assert side is not None
    assert found is not None
    for row, column in ((0, 0), (1, 2), (tokens.grid[0] - 1, tokens.grid[1] - 1)):
        patch = case.sample.inputs["main"][:, row * side : (row + 1) * side, column * side : (column + 1) * side]
        expected = torch.einsum("fcij,cij->f", weight, patch) + bias
        place = tokens.prefix + row * tokens.grid[1] + column
        torch.testing.assert_close(found[place], expected, atol=1e-5, rtol=1e-4)


def test_a_layer_can_be_asked_alone(case: Case) -> None:
    """Of one stream; a translator's layers need what the other side has read."""
    if case.model.spec.modality == "translation":
        pytest.skip("it has two streams")
    tokens = {} if case.model.spec.modality == "image" else {"tokens": case.sample.tokens["main"]}
    residuals = case.trace.residuals["main"]
    for index in range(case.model.spec.layers):
        found = case.model.layer(index, residuals[index], **tokens)
        torch.testing.assert_close(found, residuals[index + 1])


def test_the_parts_of_a_layer_make_it_up(case: Case) -> None:
    """What attention reads, what it adds with its bias, the norms and the MLP: together they are the layer."""
    if case.model.spec.modality == "translation":
        with pytest.raises(UnsupportedMask):
            case.model.layer_parts(0)
        return
    residuals, calls = case.trace.residuals["main"], case.trace.calls
    for index in range(case.model.spec.layers):
        parts, before = case.model.layer_parts(index), residuals[index]
        last = [call for call in calls if call.layer == index][-1]
        added = torch.einsum("hqd,hdf->qf", last.output, last.projection)
        torch.testing.assert_close(
            parts.feed_forward(parts.after_attention(before, added)), residuals[index + 1], atol=1e-4, rtol=1e-4
        )
        query, key = parts.project(parts.reads(before), last.queries)
        if case.model.spec.positions in ("rotary", "rotary2d"):
            continue  # they turn queries and keys afterwards
        torch.testing.assert_close(query, last.query, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(key, last.key, atol=1e-4, rtol=1e-4)
