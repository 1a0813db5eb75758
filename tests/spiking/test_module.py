"""A network as a torch module: each step is the reference's, hooks see spikes, no state stays behind."""

from typing import Any

import pytest
import torch
from growing import CODINGS, NEURONS, integer_graphs
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from spikemorph.convert import certify, to_spiking
from spikemorph.graph import Graph, InputError, Node
from spikemorph.graph.grid import Grid
from spikemorph.layers.linear import Linear
from spikemorph.layers.readout import Readout
from spikemorph.spiking import Coding, Neuron, ReferenceEngine, Schedule, SpikingNetwork
from spikemorph.spiking.coding import Constant
from spikemorph.spiking.module import SpikingLayers
from spikemorph.spiking.neurons import pow2


def both(network: SpikingNetwork, x: Tensor, steps: int) -> None:
    """Every spike and every logit of every step is the reference's."""
    wanted = ReferenceEngine(network).run(x, steps, record=True)
    logits = wanted.real_outputs(network)
    net = SpikingLayers(network, steps)
    state = net.start()
    for k in range(steps):
        state, step = net.step(state, x)
        assert step.spikes.keys() == wanted.trains.keys()
        for name, spikes in step.spikes.items():
            assert torch.equal(spikes, wanted.trains[name][k]), (name, k)
        assert torch.equal(step.logits, logits[k])
    assert torch.equal(net(x), logits[-1])


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    drawn=integer_graphs(),
    neuron=st.sampled_from(NEURONS),
    coding=st.sampled_from(CODINGS),
    schedule=st.sampled_from(Schedule),
)
def test_every_step_is_the_reference_s(
    drawn: tuple[Graph, Tensor], neuron: Neuron, coding: Coding, schedule: Schedule
) -> None:
    graph, x = drawn
    network = to_spiking(graph, neuron, coding, schedule)
    both(network, x.float(), (certify(network).steps_required or 10) + 1)


@settings(max_examples=5, deadline=None, derandomize=True)
@given(
    drawn=integer_graphs(),
    neuron=st.sampled_from([n for n in NEURONS if n.up is not None and n.down is not None]),
)
def test_biases_of_rate_coded_networks_come_at_every_step(
    drawn: tuple[Graph, Tensor], neuron: Neuron
) -> None:
    both(to_spiking(drawn[0], neuron, Constant()), drawn[1].float(), 6)


@pytest.fixture
def small(chain: Any, even_ladder: Any) -> SpikingNetwork:
    """Two neurons behind three inputs, and two outputs."""
    graph = chain(
        (3,),
        Linear(torch.tensor([[3, 1, 0], [0, -2, 5]]), torch.tensor([1, 0])),
        even_ladder(4, 1, 2, 0, 7),
        Linear(torch.tensor([[1, 2], [-1, 1]]), None),
        Readout(torch.tensor([1]), even_ladder(1, 1, 0, 0, 1).unit),
        grid=Grid.of(0.0, 15.0, bits=4),
    )
    return to_spiking(graph, pow2())


X = torch.tensor([[1.0, 7.0, 3.0], [15.0, 0.0, 2.0], [0.0, 0.0, 0.0]])


def test_hooks_see_the_spikes_of_their_layer_at_every_step(small: SpikingNetwork) -> None:
    trains = ReferenceEngine(small).run(X, 5, record=True).trains["n1"]
    net, seen = SpikingLayers(small, 5), []
    assert [name for name, _ in net.named_children()] == ["n0", "n1", "n2", "n3"]
    net.get_submodule("n1").register_forward_hook(lambda module, inputs, out: seen.append(out))
    net(X)
    assert torch.equal(torch.stack(seen).long(), trains)
    assert trains.any()


def test_what_enters_a_layer_can_be_changed_by_a_hook(small: SpikingNetwork) -> None:
    """Hooks have a say, as in any torch module: without currents no neuron fires."""
    net = SpikingLayers(small, 5)
    net.get_submodule("n0").register_forward_hook(lambda module, inputs, out: torch.zeros_like(out))
    _, step = net.step(net.start(), X)
    assert not step.spikes["n1"].any()


def test_states_are_values(small: SpikingNetwork) -> None:
    """A state can be gone on from twice, and calls do not know of each other."""
    net = SpikingLayers(small, 5)
    first, _ = net.step(net.start(), X)
    after = [net.step(first, X)[1] for _ in range(2)]
    assert torch.equal(after[0].spikes["n1"], after[1].spikes["n1"])
    assert torch.equal(after[0].membranes["n1"], after[1].membranes["n1"])
    assert torch.equal(net(X), net(X))
    assert not torch.equal(net(X, steps=1), net(X))


def test_a_moved_module_computes_with_what_was_moved(small: SpikingNetwork) -> None:
    """All that a layer computes with is a buffer of it, and stays whole in any number type."""
    net = SpikingLayers(small, 5)
    before = net(X)
    net.to(torch.float16)
    assert torch.equal(net(X), before)
    weight = net.get_buffer("n0.weight")
    net._apply(lambda tensor: torch.zeros_like(tensor) if tensor.shape == weight.shape else tensor)
    assert not net.step(net.start(), X)[1].spikes["n1"][:, 1].any()


def test_membranes_are_what_was_received_and_not_sent(small: SpikingNetwork) -> None:
    """``V = V0 + C - theta S`` with start 2 and threshold 4, from sums and spikes of the definition."""
    trace = ReferenceEngine(small).run(X, 4, record=True)
    net = SpikingLayers(small, 4)
    state, received = (
        net.start(),
        X @ torch.tensor([[3.0, 1, 0], [0, -2, 5]]).T + torch.tensor([1, 0]),
    )
    for k in range(4):
        state, step = net.step(state, X)
        sent = trace.trains["n1"][: k + 1].sum(0)
        assert torch.equal(step.membranes["n1"], received.long() + 2 - 4 * sent)


def test_names_that_mean_something_to_a_module_are_given_way_to(
    small: SpikingNetwork, chain: Any
) -> None:
    renamed = {"n0": "step", "n1": "a.weight", "n2": "a", "n3": "..x"}
    nodes = tuple(
        Node(renamed.get(n.name, n.name), n.op, tuple(renamed.get(i, i) for i in n.inputs))
        for n in small.graph.nodes
    )
    graph = Graph(nodes, ("x",), ("..x",))
    network = SpikingNetwork(graph, (("a.weight", pow2()),))
    net = SpikingLayers(network, 5)
    assert torch.equal(net(X), SpikingLayers(small, 5)(X))
    layers = [
        name for name, part in net.named_modules() if type(part).__module__ == type(net).__module__
    ]
    assert set(layers) == {"", "step_", "a", "a.weight_", "_._.x"}


def test_bad_calls_are_refused_in_one_line(small: SpikingNetwork) -> None:
    net = SpikingLayers(small, 5)
    with pytest.raises(InputError, match="x: inputs are on meta, the module on cpu; move"):
        net(X.to("meta"))
    with pytest.raises(InputError, match="0 steps"):
        net(X, steps=0)
    with pytest.raises(InputError, match="outside the declared input range 0..15"):
        net(X + 20)


def test_what_is_shown_holds_no_tensors(small: SpikingNetwork) -> None:
    net = SpikingLayers(small, 5)
    state, step = net.step(net.start(), X)
    assert repr(step) == "Moment: neurons that fired: {n1: 3}, logits float64 3x2"
    assert "Ladder(rungs=int64 1x7" in repr(net)
    assert not any("tensor(" in repr(value) for value in (net, state, step))
