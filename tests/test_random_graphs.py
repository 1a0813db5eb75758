"""Random integer networks: both engines agree on every spike, and settle to the integer pass."""

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from typing import Any

import torch
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from torch import Tensor

from spikemorph.convert import canonical, certify, to_spiking
from spikemorph.graph import Graph, Input, InputError, Node, Op
from spikemorph.graph.grid import Grid
from spikemorph.graph.interpret import run_integers
from spikemorph.graph.tables import on_integers
from spikemorph.layers.activation import Clip, LeakyReLU, ReLU, Sigmoid, Tanh
from spikemorph.layers.affine import ScaleShift
from spikemorph.layers.convolution import Convolution
from spikemorph.layers.joining import Add, Concat
from spikemorph.layers.ladder import Ladder, Line
from spikemorph.layers.linear import Linear
from spikemorph.layers.narrowing import Narrow
from spikemorph.layers.pooling import AveragePool, GlobalMax, MaxPool, SumPool
from spikemorph.layers.readout import Readout
from spikemorph.layers.shape import Pad, Reshape, Transpose
from spikemorph.quant import MSE, Max, Percentile, Quantisation, quantise_graph
from spikemorph.spiking import (
    AnalogFirstStep,
    Coding,
    Neuron,
    ReferenceEngine,
    Schedule,
    SpikingNetwork,
    Trace,
)
from spikemorph.spiking.coding import BitPlane, Constant, Repeated, Thermometer
from spikemorph.spiking.neurons import BIF, IF, SNM, STBIF, burst, few_spikes, group, pow2
from spikemorph.spiking.settling import ranges

Build = Callable[..., Any]
NEURONS = (pow2(), STBIF(), group(2), group(15), IF(), IF(capped=False), SNM(), BIF(), burst(3),
           few_spikes())  # fmt: skip
CODINGS = (AnalogFirstStep(), Repeated(3), BitPlane(), Thermometer(4))
ONE, NONE = (1, 1), ((0, 0), (0, 0))
KINDS = ("conv", "conv", "ladder", "ladder", "ladder", "add", "concat", "max", "sum", "scale",
         "pad", "narrow", "turn", "global")  # fmt: skip


@dataclass
class Growing:
    """An integer graph under construction, with the integers that four samples have at each node."""

    draw: st.DrawFn
    generator: torch.Generator
    nodes: list[Node] = field(default_factory=list)
    known: dict[str, Tensor] = field(default_factory=dict)

    def put(self, op: Op, *inputs: str) -> str:
        name = f"n{len(self.nodes)}"
        self.known[name] = on_integers[type(op)](op, *(self.known[i] for i in inputs))
        self.nodes.append(Node(name, op, inputs))
        return name

    def choose(self, *options: Any) -> Any:
        return self.draw(st.sampled_from(options))

    def whole(self, low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high + 1, shape, generator=self.generator)

    def maps(self) -> list[str]:
        """Nodes that still have positions, the latest ones first."""
        return [n.name for n in reversed(self.nodes) if self.known[n.name].dim() == 4]

    def grow(self, kind: str) -> None:
        source = self.choose(*self.maps()[:3])
        x = self.known[source]
        channels = x.shape[1]
        if kind == "conv":
            self.put(self.convolution(channels), source)
        elif kind == "ladder":
            self.put(self.ladder(x), source)
        elif kind == "add":
            others = [n for n in self.maps() if self.known[n].shape == x.shape]
            factors = self.whole(-2, 3, channels, 1, 1), self.whole(-2, 3)
            self.put(Add(factors), source, self.choose(*others))
        elif kind == "concat":
            fits = [n for n in self.maps() if self.known[n].shape[2:] == x.shape[2:]]
            self.put(Concat(1), source, self.choose(*fits))
        elif kind == "scale":
            shape = self.choose((), (channels, 1, 1), tuple(x.shape[1:]))
            self.put(ScaleShift(self.whole(-2, 2, *shape), self.whole(-9, 9, *shape)), source)
        elif kind == "pad":
            self.put(Pad(((0, 1), (1, 0))), source)
        elif kind == "narrow":
            self.put(Narrow(1, channels // 2, channels - channels // 2), source)
        elif kind == "turn":
            self.put(Transpose((0, 1, 3, 2)), source)
        elif kind == "global":
            self.put(GlobalMax(), source)
        else:
            self.put(self.pool(kind, min(x.shape[2:])), source)

    def convolution(self, channels: int) -> Convolution:
        groups = self.choose(*(g for g in (1, 2, channels) if channels % g == 0))
        out = groups * self.choose(1, 2) if groups < 4 else groups
        size = self.choose(1, 3)
        weight = self.whole(-3, 3, out, channels // groups, size, size)
        bias = self.choose(None, self.whole(-9, 9, out))
        side = size // 2
        padding = self.choose(((side, side), (side, side)), ((side, side + 1), (side, side)))
        return Convolution(weight, bias, self.choose(ONE, (2, 1)), padding, ONE, groups)

    def pool(self, kind: str, size: int) -> Op:
        kernel = min(self.choose(2, 3), size)
        stride, pad = self.choose(1, 2), self.choose(0, kernel // 2)
        pads = ((pad, pad), (pad, 0))
        if kind == "max":
            return MaxPool((kernel, kernel), (stride, stride), pads, ONE)
        return SumPool((kernel, kernel), (stride, stride), pads)

    def ladder(self, x: Tensor) -> Ladder:
        """Even, or uneven with rungs right at sums that occur; one for all channels, or one each."""
        rows, levels = self.choose(1, x.shape[1]), self.choose(1, 3, 15, 70)
        smin = self.choose(0, -(levels // 2))
        smax = smin + levels
        if self.draw(st.booleans()):
            seen = x.flatten()[torch.randint(x.numel(), (rows, levels), generator=self.generator)]
            return Ladder(seen.sort(1).values, smin, smax, Fraction(1))
        scale = self.whole(1, 3, rows)
        span = int(x.max() - x.min()) + 1
        threshold = self.whole(1, max(1, 4 * span // levels), rows)
        line = Line(threshold, scale, self.whole(-3, 3, rows) + threshold // 2)
        return Ladder(line.rungs(smin, smax), smin, smax, Fraction(1), line)


@st.composite
def integer_graphs(draw: st.DrawFn) -> tuple[Graph, Tensor]:
    """A random graph that ends in a linear layer and a read-out, and four inputs."""
    grid = Grid(Fraction(1), draw(st.sampled_from((0, -7))), draw(st.sampled_from((1, 7, 12))))
    shape = (draw(st.sampled_from((2, 4))), draw(st.integers(2, 4)), draw(st.integers(2, 4)))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**20)))
    net = Growing(draw, generator)
    net.known["x"] = net.whole(grid.low, grid.high, 4, *shape)
    net.nodes.append(Node("x", Input(shape, grid)))
    for kind in draw(st.lists(st.sampled_from(KINDS), min_size=2, max_size=8)):
        net.grow(kind)
    last = net.put(net.ladder(net.known[net.nodes[-1].name]), net.nodes[-1].name)
    flat = net.put(Reshape((net.known[last][0].numel(),)), last)
    weight = net.whole(-4, 4, 3, net.known[flat].shape[1])
    out = net.put(Linear(weight, net.whole(-9, 9, 3)), flat)
    end = net.put(Readout(net.whole(1, 4, 3), Fraction(1, 3)), out)
    return Graph(tuple(net.nodes), ("x",), (end,)), net.known["x"]


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


def sums_in_time(network: SpikingNetwork, x: Tensor, trace: Trace) -> dict[str, Tensor]:
    """(step, sample, ...) what every node has sent up to each step, worked out from spikes alone."""
    steps = range(1, trace.steps + 1)
    entered = torch.stack([network.coding.at(x, step, network.grid) for step in steps]).cumsum(0)
    found: dict[str, Tensor] = {}
    for node in network.graph.nodes:
        if isinstance(node.op, Input):
            found[node.name] = entered
        elif isinstance(node.op, Ladder):
            found[node.name] = trace.trains[node.name].cumsum(0)
        else:
            row, inputs = on_integers[type(node.op)], [found[name] for name in node.inputs]
            rows = [row(node.op, *(i[k] for i in inputs)) for k in range(trace.steps)]
            found[node.name] = torch.stack(rows)
    return found


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
