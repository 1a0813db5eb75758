"""Recurrent networks in time: every state at every element, both schedules, both engines."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from spikemorph.convert import canonical, certify, to_spiking
from spikemorph.graph import Graph, GraphError, Input, InputError, Node
from spikemorph.graph.graph import Register
from spikemorph.graph.grid import Grid
from spikemorph.graph.interpret import integer_compute, run_integers, walk
from spikemorph.graph.stages import INTEGER, problems
from spikemorph.graph.traits import Recurs
from spikemorph.layers.activation import Clip, ReLU, Sigmoid, Tanh
from spikemorph.layers.cells import Gate, gru_cell, lstm_cell, plain_cell
from spikemorph.layers.convolution import Convolution
from spikemorph.layers.integer_pass import IntegerPass
from spikemorph.layers.joining import Add, Concat
from spikemorph.layers.ladder import Ladder
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

ONES = Add((torch.tensor(1.0), torch.tensor(1.0)))
GRID = Grid.of(0.0, 1.0, 4)
CELLS = ("tanh", "relu", "gru", "gru, reset first", "lstm", "memory", "delays")


def drawn_cell(kind: str, inputs: int, size: int, seed: int) -> Graph:
    """A body with random weights, large enough that states go to their ends."""
    draw = torch.Generator().manual_seed(seed)

    def numbers(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draw) * 1.5

    def gate() -> Gate:
        return Gate(numbers(size, inputs), numbers(size, size), numbers(size), numbers(size))

    start = torch.rand(size, generator=draw) - 0.5
    if kind in ("tanh", "relu"):
        return plain_cell(gate(), Tanh() if kind == "tanh" else Clip(0.0, 1.0), start.clamp(min=0))
    if kind.startswith("gru"):
        parts, early = [gate() for _ in range(3)], "first" not in kind
        return gru_cell(*parts, start, [Sigmoid(), Tanh()], linear_before_reset=early)
    if kind == "lstm":
        return lstm_cell(*(gate() for _ in range(4)), (start, start), [Sigmoid(), Tanh(), Tanh()])
    if kind == "memory":
        return memory_cell(numbers(size, size) / (3 * size), numbers(size, inputs))
    return delay_cell(numbers(size, inputs), numbers(size, inputs))


def memory_cell(kept: Tensor, taken: Tensor) -> Graph:
    """``m' = A m + B x``: linear, and read by nobody but itself before it leaves."""
    nodes = (
        Node("x", Input((taken.shape[1],))), Node("m", Input((len(kept),))),
        Node("kept", Linear(kept, None), ("m",)), Node("taken", Linear(taken, None), ("x",)),
        Node("memory", ONES, ("kept", "taken")),
    )  # fmt: skip
    return Graph(nodes, ("x",), ("memory",), (Register("m", torch.zeros(len(kept)), "memory"),))


def delay_cell(now: Tensor, before: Tensor) -> Graph:
    """A causal convolution: registers that take the input, and another register."""
    inputs = now.shape[1]
    nodes = (
        Node("x", Input((inputs,))), Node("late", Input((inputs,))), Node("later", Input((inputs,))),
        Node("now", Linear(now, None), ("x",)), Node("then", Linear(before, None), ("later",)),
        Node("sum", ONES, ("now", "then")), Node("out", ReLU(), ("sum",)),
    )  # fmt: skip
    zero = torch.zeros(inputs)
    registers = (Register("late", zero, "x"), Register("later", zero, "late"))
    return Graph(nodes, ("x",), ("out",), registers)


def around(*bodies: tuple[Graph, bool], elements: int, inputs: int, size: int) -> Graph:
    """One body after another, or two that read the same in both directions, then a read-out."""
    nodes = [Node("x", Input((elements, inputs)))]
    last, width = "x", size
    if len(bodies) == 2 and bodies[1][1]:
        for name, (body, reverse) in zip("ab", bodies, strict=True):
            nodes.append(Node(name, Scan(body, 1, reverse), ("x",)))
        nodes.append(Node("both", Concat(2), ("a", "b")))
        last, width = "both", 2 * size
    else:
        for name, (body, reverse) in zip("ab", bodies, strict=False):
            nodes.append(Node(name, Scan(body, 1, reverse), (last,)))
            last = name
    weight = torch.randn((3, width), generator=torch.Generator().manual_seed(width))
    nodes += [
        Node("last", Narrow(1, elements - 1, 1), (last,)),
        Node("flat", Reshape((width,)), ("last",)),
        Node("logits", Linear(weight, torch.ones(3)), ("flat",)),
    ]
    return Graph(tuple(nodes), ("x",), ("logits",))


def jumping(samples: int, elements: int, inputs: int, seed: int) -> Tensor:
    """Inputs on the grid, half of them at one of its ends: from element to element they jump."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randint(0, 16, (samples, elements, inputs), generator=draw)
    ends = torch.rand(x.shape, generator=draw) < 0.5
    return torch.where(ends, (x > 7) * 15, x).float() / 15


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


def settled_states(graph: Graph, x: Tensor) -> dict[str, Tensor]:
    """(sample, element, *shape) of every ladder in a body, by qualified name, by the definition."""
    found: dict[str, list[Tensor]] = {}

    def compute(inside: str, node: Node, *inputs: Tensor) -> Tensor:
        op = node.op
        if isinstance(op, Recurs):
            return op.computed(partial(compute, f"{node.name}/"), *inputs)
        made: Tensor = integer_compute(graph if not inside else bodies[inside])(node, *inputs)
        if inside and isinstance(op, Ladder):
            found.setdefault(f"{inside}{node.name}", []).append(made)
        return made

    bodies = {f"{n.name}/": n.op.body for n in graph.nodes if isinstance(n.op, Recurs)}
    back = {f"{n.name}/": n.op.reverse for n in graph.nodes if isinstance(n.op, Recurs)}
    for _ in walk(graph, GRID.to_integers(x), partial(compute, "")):
        pass
    ordered = {
        name: made[::-1] if back[f"{name.split('/')[0]}/"] else made for name, made in found.items()
    }
    return {name: torch.stack(made, 1) for name, made in ordered.items()}


def sent_states(network: SpikingNetwork, trains: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same from spikes alone: what a neuron has sent since it was at rest."""
    found = {}
    for name, train in trains.items():
        layer = name.split("/")[0]
        if layer == name:
            continue
        op = network.graph[layer].op
        assert isinstance(op, Recurs)
        sent = train.sum(0)
        if network.carry is Carry.DELTA:
            sent = sent.flip(1).cumsum(1).flip(1) if op.reverse else sent.cumsum(1)
        found[name] = sent
    return found


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
