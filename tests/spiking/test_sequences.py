"""Recurrent networks in time: every state at every element, both schedules, both engines."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recurring import (
    CELLS,
    GRID,
    ONES,
    around,
    drawn_cell,
    jumping,
    sent_states,
    settled_states,
)  # fmt: skip
from torch import Tensor

from spikemorph.convert import canonical, certify, to_spiking
from spikemorph.graph import Graph, GraphError, Input, InputError, Node
from spikemorph.graph.grid import Grid
from spikemorph.graph.interpret import run_integers
from spikemorph.graph.stages import INTEGER, problems
from spikemorph.layers.activation import Clip, ReLU
from spikemorph.layers.cells import Gate, plain_cell
from spikemorph.layers.convolution import Convolution
from spikemorph.layers.integer_pass import IntegerPass
from spikemorph.layers.linear import Linear
from spikemorph.layers.scan import Scan
from spikemorph.layers.shape import Reshape, Transpose
from spikemorph.layers.slicing import Narrow
from spikemorph.quant import Quantisation, quantise_graph
from spikemorph.spiking import Neuron, Schedule, SpikingNetwork
from spikemorph.spiking.bounds import ranges
from spikemorph.spiking.coding import BitPlane
from spikemorph.spiking.engines import engine_for
from spikemorph.spiking.network import Carry
from spikemorph.spiking.neurons import BIF, IF, STBIF, group, pow2
from spikemorph.spiking.segments import segments

NEURONS = {pow2(): 3000, STBIF(): 30, group(3): 90}  # and the most levels that are settled fast


@st.composite
def recurrent(draw: st.DrawFn) -> tuple[Graph, Tensor, Neuron]:
    """An integer graph with one or two recurrent layers, inputs, and a neuron for it."""
    neuron = draw(st.sampled_from(list(NEURONS)))
    inputs, size, elements = (draw(st.integers(1, n)) for n in (3, 5, 6))
    seed, how = draw(st.integers(0, 2**31)), draw(st.sampled_from(["one", "two", "both", "back"]))
    levels, state_levels = draw(st.integers(2, 30)), draw(st.integers(2, NEURONS[neuron]))
    kinds = [draw(st.sampled_from(CELLS)) for _ in range(2)]
    first = drawn_cell(kinds[0], inputs, size, seed)
    second = drawn_cell(kinds[1], inputs if how == "both" else size, size, seed + 1)
    bodies = [(first, how == "back"), (second, how == "both")][: 1 if how in ("one", "back") else 2]
    graph = canonical(around(*bodies, elements=elements, inputs=inputs, size=size))
    x = jumping(12, elements, inputs, seed)
    how_fine = Quantisation(levels=levels, state_levels=state_levels, bias_correction=False)
    try:
        return quantise_graph(graph, x, GRID, how_fine), x, neuron
    except InputError as error:
        assert "silent" in str(error)  # a state that no drawn input wakes
        return draw(recurrent())


@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    drawn=recurrent(), schedule=st.sampled_from(Schedule), carry=st.sampled_from(Carry),
)  # fmt: skip
def test_every_state_of_any_recurrent_network(
    drawn: tuple[Graph, Tensor, Neuron], schedule: Schedule, carry: Carry
) -> None:
    """Both engines send the same; what was sent are the integer network's states at every element."""
    graph, x, neuron = drawn
    network = to_spiking(graph, neuron, schedule=schedule, carry=carry)
    proof = certify(network)
    assert proof.level == "A" and proof.steps_required is not None, proof.refusals
    wanted = settled_states(graph, x)
    outputs = run_integers(graph, GRID.to_integers(x))
    assert torch.equal(IntegerPass(graph)(x), outputs)
    traces = [
        engine_for(network, name=name).run(x, proof.steps_required + 1, record=True)
        for name in ("dense", "reference")
    ]
    for trace in traces:
        assert torch.equal(trace.outputs[-1], outputs)
        assert bool((trace.settled >= 0).all()) and int(trace.settled.max()) <= proof.steps_required
        states = sent_states(network, dict(trace.trains))
        assert states.keys() == wanted.keys()
        for name, value in wanted.items():
            assert torch.equal(states[name], value), name
            bound = ranges(network)[name]
            assert int(value.min()) >= bound.low.min() and int(value.max()) <= bound.high.max()
    for name, train in traces[1].trains.items():
        assert torch.equal(train, traces[0].trains[name]), name
        assert torch.equal(traces[0].positive[name], traces[1].positive[name]), name


def hidden_differences(network: SpikingNetwork, x: Tensor, steps: int) -> int:
    wanted = settled_states(network.graph, x)
    trains = engine_for(network).run(x, steps, record=True).trains
    states = sent_states(network, dict(trains))
    return sum(int((states[name] != value).sum()) for name, value in wanted.items())


@pytest.mark.parametrize("carry", Carry)
@pytest.mark.parametrize("neuron", [STBIF(), pow2()])
def test_one_inner_step_fewer_fails(neuron: Neuron, carry: Carry) -> None:
    """A state that goes from one end to the other at every element needs all of its steps."""
    flip = plain_cell(
        Gate(torch.tensor([[2.0]]), torch.tensor([[0.0]]), torch.tensor([-1.0]), None),
        Clip(-1.0, 1.0), torch.zeros(1),
    )  # fmt: skip
    graph = canonical(around((flip, False), elements=12, inputs=1, size=1))
    x = jumping(64, 12, 1, 2)
    integer = quantise_graph(graph, x, GRID, Quantisation(levels=64, bias_correction=False))
    network = to_spiking(integer, neuron, carry=carry)
    steps = certify(network).steps_required
    assert steps is not None and steps > 2
    assert hidden_differences(network, x, steps) == 0
    assert hidden_differences(network, x, steps - 1) > 0


def test_delta_sends_less_and_nothing_where_nothing_changes() -> None:
    body = drawn_cell("gru", 2, 4, 5)
    graph = canonical(around((body, False), elements=40, inputs=2, size=4))
    x = jumping(6, 1, 2, 3).expand(-1, 40, -1)
    integer = quantise_graph(graph, x, GRID, Quantisation(state_levels=64))
    totals = {}
    for carry in Carry:
        network = to_spiking(integer, carry=carry)
        steps = certify(network).steps_required
        assert steps is not None
        trace = engine_for(network).run(x, steps, record=True)
        totals[carry] = int(trace.spikes().sum())
        late = torch.cat(
            [t[:, :, -2:].flatten() for name, t in trace.trains.items() if "/" in name]
        )
        assert bool(late.any()) == (carry is Carry.RESET)
    assert 3 * totals[Carry.DELTA] < totals[Carry.RESET]


def test_a_convolution_ahead_and_behind_are_parts_with_steps_of_their_own() -> None:
    """A CRNN: what is read column by column was settled before the first column began."""
    draw = torch.Generator().manual_seed(1)
    weight = torch.randn((4, 1, 3, 3), generator=draw)
    head = torch.randn((3, 5), generator=draw)
    nodes = (
        Node("x", Input((1, 6, 8))),
        Node("conv", Convolution(weight, torch.zeros(4), (1, 1), ((1, 1), (1, 1)), (1, 1)), ("x",)),
        Node("act", ReLU(), ("conv",)),
        Node("turned", Transpose((0, 3, 1, 2)), ("act",)),
        Node("columns", Reshape((8, 24)), ("turned",)),
        Node("a", Scan(drawn_cell("gru", 24, 5, 1), 1, False), ("columns",)),
        Node("b", Scan(drawn_cell("lstm", 24, 5, 2), 1, True), ("columns",)),
        Node("sum", ONES, ("a", "b")),
        Node("last", Narrow(1, 7, 1), ("sum",)),
        Node("flat", Reshape((5,)), ("last",)),
        Node("hidden", Linear(torch.eye(5), None), ("flat",)),
        Node("relu", ReLU(), ("hidden",)),
        Node("logits", Linear(head, None), ("relu",)),
    )  # fmt: skip
    graph = canonical(Graph(nodes, ("x",), ("logits",)))
    x = torch.randint(0, 16, (20, 1, 6, 8), generator=draw) / 15
    network = to_spiking(quantise_graph(graph, x, GRID, Quantisation()))
    parts = segments(network)
    assert [part.inside for part in parts] == ["", "a/", "b/", ""]
    steps = certify(network).steps_required
    assert steps is not None
    wanted = IntegerPass(network.graph)(x)
    for name in ("dense", "reference"):
        trace = engine_for(network, name=name).run(x, steps, record=True)
        assert torch.equal(trace.outputs[-1], wanted)
        assert trace.trains["a/state"].shape == (steps, 20, 8, 5)
        assert trace.trains["act"].shape[:3] == (steps, 20, 4)


def refusals() -> dict[str, tuple[Callable[[Graph], SpikingNetwork], str]]:
    return {
        "no top": (lambda g: to_spiking(g, BIF()), "a state has a top, and bif has none"),
        "pieces": (
            lambda g: to_spiking(g, coding=BitPlane()),
            "elements of sequences enter all at",
        ),
    }


@pytest.mark.parametrize("what", refusals())
def test_what_no_recurrent_network_can_be(what: str) -> None:
    make, why = refusals()[what]
    graph = canonical(around((drawn_cell("gru", 2, 3, 1), False), elements=4, inputs=2, size=3))
    integer = quantise_graph(graph, jumping(9, 4, 2, 1), GRID, Quantisation())
    with pytest.raises(GraphError, match=why):
        certify(make(integer))


def test_what_cannot_be_taken_back_gets_no_certificate_by_change() -> None:
    graph = canonical(around((drawn_cell("relu", 2, 3, 1), False), elements=4, inputs=2, size=3))
    integer = quantise_graph(graph, jumping(9, 4, 2, 1), GRID, Quantisation())
    reset, delta = (to_spiking(integer, IF(), schedule=Schedule.WAIT, carry=c) for c in Carry)
    assert certify(reset).level == "A"
    assert certify(delta).level is None
    assert "'a/state': if cannot take spikes back" in certify(delta).refusals[0]


def test_a_register_that_leaves_its_grid_is_refused() -> None:
    graph = canonical(around((drawn_cell("tanh", 2, 3, 1), False), elements=4, inputs=2, size=3))
    integer = quantise_graph(graph, jumping(9, 4, 2, 1), GRID, Quantisation())
    assert not problems(integer, INTEGER)
    op = integer["a"].op
    assert isinstance(op, Scan)
    narrow = Input((3,), Grid(Fraction(1, 8), -1, 1))
    body = op.body.map(lambda n: replace(n, op=narrow) if n.name == "h" else n)
    start = replace(op.body.registers[0], start=torch.full((3,), 10**6))
    for other in (body, replace(op.body, registers=(start,))):
        forged = integer.map(
            lambda n, o=other: replace(n, op=op.having(body=o)) if n.name == "a" else n
        )
        (problem,) = problems(forged, INTEGER)
        assert problem.node == "a" and "leaves its grid" in problem.reason
