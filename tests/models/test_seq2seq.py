"""The recurrent translator against its formulas: torch's GRU step by step, attention in loops over pairs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attnviz.attention.variants.additive import Additive
from attnviz.edits import Edit
from attnviz.models.seq2seq import CROSS, Seq2Seq, Seq2SeqConfig
from attnviz.models.store import load_translator
from attnviz.models.text import WORD

WIDTH, HIDDEN, COMPARED, SOURCE, TARGET = 12, 8, 6, 7, 5


def network() -> Seq2Seq:
    """A network from a fixed seed, with parameters large enough for tanh to saturate."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = Seq2Seq(Seq2SeqConfig(width=WIDTH, hidden=HIDDEN, compared=COMPARED, vocabulary=30)).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(2)
    return made.eval()


def ids(count: int, seed: int) -> Tensor:
    """Pieces at random."""
    return torch.randint(30, (count,), generator=torch.Generator().manual_seed(seed))


def one_step(cell: nn.GRUCell) -> nn.GRU:
    """A whole GRU with the parameters of a cell."""
    whole = nn.GRU(cell.input_size, cell.hidden_size).double()
    whole.load_state_dict({f"{name}_l0": tensor for name, tensor in cell.state_dict().items()})
    return whole


def by_hand(net: Seq2Seq, source: Tensor, target: Tensor, added: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Logits [target token] and weights [target source] in loops; `added` is put onto the weights."""
    encoder: Any = net.blocks["encoder"]
    cell: Any = net.blocks["decoder"]
    step = one_step(cell)
    x = net.table[source] * WIDTH**0.5
    states = encoder(x[None])[0][0]
    state = torch.tanh(net.first.weight @ states[0, HIDDEN:] + net.first.bias)
    logits, maps = [], []
    for i, token in enumerate(target):
        y = net.table[token] * WIDTH**0.5
        scores = [net.vector @ torch.tanh(net.from_query.weight @ state + net.from_key.weight @ h) for h in states]
        weights = torch.stack(scores).softmax(0)
        if added is not None:
            weights = weights + added[i]
        context = sum((w * h for w, h in zip(weights, states, strict=True)), torch.zeros(2 * HIDDEN).double())
        state = step(torch.cat([y, context])[None, None], state[None, None])[1][0, 0]
        pairs = net.readout.weight @ torch.cat([y, state, context]) + net.readout.bias
        features = torch.stack([pairs[2 * k : 2 * k + 2].max() for k in range(WIDTH)])
        logits.append(net.table @ features + net.bias)
        maps.append(weights)
    return torch.stack(logits), torch.stack(maps)


def test_it_computes_what_the_paper_says():
    net, source, target = network(), ids(SOURCE, 0), ids(TARGET, 1)
    trace = net(source, target)
    logits, maps = by_hand(net, source, target)
    torch.testing.assert_close(trace.logits[WORD], logits, atol=1e-10, rtol=0)
    (call,) = trace.calls
    assert call.name == CROSS
    assert isinstance(call.rule, Additive)
    assert call.token_map().shape == (1, TARGET, SOURCE)
    torch.testing.assert_close(call.token_map()[0], maps, atol=1e-10, rtol=0)
    assert call.output is not None
    torch.testing.assert_close(call.token_map() @ call.value, call.output, atol=1e-10, rtol=0)
    torch.testing.assert_close(call.rule.mix(call), call.output, atol=1e-10, rtol=0)


def test_the_query_of_a_step_is_the_state_before_it():
    net, source, target = network(), ids(SOURCE, 0), ids(TARGET, 1)
    (call,) = net(source, target).calls
    memory = net.encode(source)
    torch.testing.assert_close(call.query[0, 0], net.from_query(net.start(memory)))
    for count in range(1, TARGET):
        state = net.decode(memory, target[:count])[1][0][0]
        torch.testing.assert_close(call.query[0, count], net.from_query(state))


def test_the_gradient_of_the_map_is_autograds_through_all_later_steps():
    net, source, target = network(), ids(SOURCE, 0), ids(TARGET, 1)
    trace = net(source, target)
    (call,) = trace.calls
    y = trace.logits[WORD][-1, 3] + trace.logits[WORD][1].logsumexp(0)
    found = call.map_gradient(call.gradient(y))
    added = torch.zeros(TARGET, SOURCE, dtype=torch.float64, requires_grad=True)
    logits, _ = by_hand(net, source, target, added)
    (wanted,) = torch.autograd.grad(logits[-1, 3] + logits[1].logsumexp(0), added)
    torch.testing.assert_close(found[0], wanted, atol=1e-9, rtol=0)


def test_padding_is_attended_by_nobody():
    net = network()
    source, keep = ids(2 * SOURCE, 0).reshape(2, SOURCE), torch.ones(2, SOURCE, dtype=torch.bool)
    keep[0, 4:] = False
    (call,) = net(source, ids(2 * TARGET, 1).reshape(2, TARGET), edit=Edit(keep_tokens=keep)).calls
    assert (call.token_map()[0, ..., 4:] == 0).all()
    assert (call.token_map()[1] > 0).all()
    torch.testing.assert_close(call.token_map().sum(-1), torch.ones(2, 1, TARGET).double())


@pytest.mark.parametrize("padded", [False, True])
def test_autocast_leaves_the_recurrence_in_full_precision(padded: bool):
    """On CUDA torch would run it in float16, whatever autocast was asked for."""
    net, source = network().float(), ids(2 * SOURCE, 0).reshape(2, SOURCE)
    keep = torch.arange(SOURCE).expand(2, -1) < torch.tensor([[4], [SOURCE]]) if padded else None
    with torch.autocast("cpu", torch.bfloat16):
        found = net.encode(source, keep)
    assert torch.equal(found, net.encode(source, keep))


def test_learning_reaches_every_parameter():
    net = network()
    net(ids(SOURCE, 0)[None], ids(TARGET, 1)[None]).logits[WORD].logsumexp(-1).sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_the_last_token_answers_and_the_small_network_starts_small():
    trace = network()(ids(SOURCE, 0), ids(TARGET, 1))
    assert trace.pooling["target"].tolist() == [0, 0, 0, 0, 1]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        fresh = Seq2Seq(Seq2SeqConfig(width=64, compared=100, vocabulary=90))
    assert 0.08 < fresh.vector.abs().max() <= 0.1  # 1/root(100)
    assert fresh.table.std().item() == pytest.approx(1 / 8, rel=0.1)
    assert load_translator("seq2seq").config == Seq2SeqConfig(), "what is shipped has the shape it has by itself"


def test_a_second_layer_or_head_is_refused():
    with pytest.raises(ValueError, match="one layer with one head"):
        Seq2SeqConfig(layers=2)
