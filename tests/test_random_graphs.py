"""Random integer networks: both engines agree on every spike, and settle to the integer pass."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from growing import CODINGS, NEURONS, NONE, ONE, integer_graphs, sums_in_time
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from torch import Tensor

from spikemorph.convert import canonical, certify, to_spiking
from spikemorph.graph import Graph, Input, InputError, Node, Op
from spikemorph.graph.grid import Grid
from spikemorph.graph.interpret import run_integers
from spikemorph.layers.activation import Clip, LeakyReLU, ReLU, Sigmoid, Tanh
from spikemorph.layers.affine import ScaleShift
from spikemorph.layers.convolution import Convolution
from spikemorph.layers.joining import Add, Concat
from spikemorph.layers.linear import Linear
from spikemorph.layers.pooling import AveragePool, MaxPool
from spikemorph.layers.shape import Reshape
from spikemorph.quant import MSE, Max, Percentile, Quantisation, quantise_graph
from spikemorph.spiking import Coding, Neuron, ReferenceEngine, Schedule, SpikingNetwork, Trace
from spikemorph.spiking.bounds import ranges
from spikemorph.spiking.coding import Constant
from spikemorph.spiking.neurons import STBIF, group, pow2

Build = Callable[..., Any]


def assert_exact_when_settled(network: SpikingNetwork, x: Tensor, trace: Trace) -> None:
    """What the certificate claims holds: at its step, and after each silent step."""
    proof = certify(network)
    wanted = run_integers(network.graph, x)
    if proof.level is None:
        assert proof.refusals
        return
    assert proof.level == "A" and proof.steps_required is not None
    assert torch.equal(trace.outputs[proof.steps_required - 1], wanted)
    assert torch.equal(trace.outputs[-1], wanted)
    assert bool(((trace.settled > 0) & (trace.settled <= proof.steps_required)).all())


@settings(max_examples=120, deadline=None, derandomize=True)
@given(
    drawn=integer_graphs(),
    neuron=st.sampled_from(NEURONS),
    coding=st.sampled_from(CODINGS),
    schedule=st.sampled_from(Schedule),
)
def test_any_network_any_neuron(
    drawn: tuple[Graph, Tensor], neuron: Neuron, coding: Coding, schedule: Schedule, in_both: Build
) -> None:
    """Engines agree spike for spike; certified networks equal the integer pass; sums keep bounds."""
    graph, x = drawn
    network = to_spiking(graph, neuron, coding, schedule)
    steps = (certify(network).steps_required or 20) + 3
    trace = in_both(network, x.float(), steps)
    assert_exact_when_settled(network, x, trace)
    for name, sums in sums_in_time(network, x, trace).items():
        bound = ranges(network)[name]
        by_channel = sums.transpose(0, 2).flatten(1)
        assert bool((by_channel >= bound.low[:, None]).all()), name
        assert bool((by_channel <= bound.high[:, None]).all()), name
        assert float(by_channel.abs().max()) <= bound.load, name


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    drawn=integer_graphs(),
    neuron=st.sampled_from([n for n in NEURONS if n.up is not None and n.down is not None]),
)
def test_rate_coded_networks_agree_too(
    drawn: tuple[Graph, Tensor], neuron: Neuron, in_both: Build
) -> None:
    """Inputs and biases at every step; more steps than the dense engine computes at once."""
    graph, x = drawn
    in_both(to_spiking(graph, neuron, Constant()), x.float(), 20)


@st.composite
def float_graphs(draw: st.DrawFn) -> tuple[Graph, Tensor]:
    """A small residual network of random reals, with a batch-norm-like scale, and 12 inputs."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**20)))

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    def activation() -> Op:
        kinds = (ReLU(), Clip(0.0, 2.0), Clip(-1.0, 1.5), LeakyReLU(0.1), Sigmoid(), Tanh())
        return draw(st.sampled_from(kinds))

    width = draw(st.sampled_from((2, 4)))
    groups = draw(st.sampled_from((1, 2)))
    same = ((1, 1), (1, 1))
    gain = normal(width, 1, 1)
    gain[0] = draw(st.sampled_from((0.0, -1.0, 1.0)))
    pools = (
        MaxPool((2, 2), (2, 2), NONE, ONE), MaxPool((3, 3), (2, 2), same, ONE),
        AveragePool((2, 2), (2, 2), NONE, NONE, True), AveragePool((3, 3), (1, 1), same, NONE, False),
    )  # fmt: skip
    first = Convolution(normal(width, 3, 3, 3) / 5, normal(width) / 3, ONE, same, ONE)
    second = Convolution(normal(width, width // groups, 3, 3) / 3, None, ONE, same, ONE, groups)
    factors = draw(st.sampled_from(((1.0, 1.0), (1.0, -1.0), (0.5, 2.0))))
    nodes = [
        Node("x", Input((3, 4, 4))),
        Node("first", first, ("x",)),
        Node("norm", ScaleShift(gain, normal(width, 1, 1).abs() / 2), ("first",)),
        Node("a", activation(), ("norm",)),
        Node("second", second, ("a",)),
        Node("sum", Add(tuple(torch.tensor(f) for f in factors)), ("second", "a")),
        Node("b", activation(), ("sum",)),
        Node("beside", Concat(1), ("b", draw(st.sampled_from(("a", "x", "second"))))),
        Node("pool", draw(st.sampled_from(pools)), ("beside",)),
        Node("c", activation(), ("pool",)),
    ]
    if draw(st.booleans()):
        nodes.pop()
    body = Graph(tuple(nodes), ("x",), (nodes[-1].name,))
    x = torch.rand(12, 3, 4, 4, generator=generator)
    known: dict[str, Tensor] = {"x": x}
    for node in nodes[1:]:
        known[node.name] = node.op(*(known[name] for name in node.inputs))
    size = known[nodes[-1].name][0].numel()
    tail = (
        Node("flat", Reshape((size,)), body.outputs),
        Node("out", Linear(normal(3, size), normal(3)), ("flat",)),
    )
    return Graph((*nodes, *tail), ("x",), ("out",)), x


@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    drawn=float_graphs(),
    levels=st.sampled_from((2, 4, 16, 300)),
    bits=st.sampled_from((2, 4, 8, 16)),
    calibrator=st.sampled_from((MSE(20), Max(), Percentile(0.99))),
    neuron=st.sampled_from((pow2(), STBIF(), group(4))),
    coding=st.sampled_from(CODINGS),
)
def test_any_quantised_network(
    drawn: tuple[Graph, Tensor], levels: int, bits: int, calibrator: Any, neuron: Neuron,
    coding: Coding, in_both: Build,
) -> None:  # fmt: skip
    """From reals to spikes: level A, exact at its step, whatever the settings."""
    graph, x = drawn
    grid = Grid.of(0.0, 1.0)
    chosen = Quantisation(levels, bits, calibrator)
    try:
        quantised = quantise_graph(canonical(graph), x, grid, chosen)
    except InputError as error:
        assert "silent" in str(error)
        reject()
    network = to_spiking(quantised, neuron, coding)
    proof = certify(network)
    assert proof.level == "A" and proof.steps_required is not None, proof.refusals
    steps = min(proof.steps_required, 60) + 1
    trace = in_both(network, x[:4], steps)
    if proof.steps_required < steps:
        assert_exact_when_settled(network, grid.to_integers(x[:4]), trace)
    else:
        done = trace.settled > 0
        wanted = run_integers(network.graph, grid.to_integers(x[:4]))
        assert torch.equal(trace.outputs[-1][done], wanted[done])


@settings(max_examples=25, deadline=None, derandomize=True)
@given(drawn=integer_graphs(), neuron=st.sampled_from((pow2(), STBIF(), group(3))))
def test_the_way_in_does_not_matter(drawn: tuple[Graph, Tensor], neuron: Neuron) -> None:
    """Theorem 2 for networks: all codings lead to one end."""
    graph, x = drawn
    ends = []
    for coding in CODINGS:
        network = to_spiking(graph, neuron, coding)
        steps = certify(network).steps_required
        assert steps is not None
        ends.append(ReferenceEngine(network).run(x.float(), min(steps, 150)).outputs[-1])
        if steps > 150:
            return
    assert all(torch.equal(a, b) for a, b in pairwise(ends))
