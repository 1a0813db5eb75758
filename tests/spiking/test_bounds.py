"""Proved bounds are never below what the reference reaches, and worst inputs reach them."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
import torch
from growing import CODINGS, NEURONS, NONE, ONE, Growing, integer_graphs, sums_in_time
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from spikemorph.convert import certify, to_spiking
from spikemorph.graph import Graph, Input, Node
from spikemorph.graph.grid import Grid
from spikemorph.graph.interpret import run_integers
from spikemorph.graph.tables import on_ranges
from spikemorph.layers.affine import ScaleShift
from spikemorph.layers.convolution import Convolution
from spikemorph.layers.joining import Add, Concat
from spikemorph.layers.ladder import Ladder, along_channels
from spikemorph.layers.linear import Linear
from spikemorph.layers.pooling import GlobalMax, MaxPool, SumPool
from spikemorph.layers.ranges import Range, bits
from spikemorph.layers.readout import Readout
from spikemorph.layers.shape import Reshape
from spikemorph.spiking import Coding, Neuron, ReferenceEngine, Schedule, SpikingNetwork, Trace
from spikemorph.spiking.bounds import ranges
from spikemorph.spiking.neurons import STBIF, group, pow2
from spikemorph.spiking.settling import Settling, membrane_peak, settling

Build = Callable[..., Any]


def membrane_reached(op: Ladder, sums: Tensor, train: Tensor) -> int:
    """The largest ``|start + scale C - threshold S|``, before and after every step's spikes."""
    assert op.line is not None
    sent = train.cumsum(0)
    flat = [t.flatten(0, 1) for t in (sums, sent, sent - train)]
    start, scale, threshold = (
        along_channels(t, flat[0]) for t in (op.line.start, op.line.scale, op.line.threshold)
    )
    ends = [start + scale * flat[0] - threshold * tracer for tracer in flat[1:]]
    return max(int(end.abs().max()) for end in ends)


def assert_within(known: Settling, train: Tensor, schedule: Schedule) -> None:
    """No spike before the gate of a layer that waits, none after the step by which it is final."""
    if schedule is Schedule.WAIT:
        assert not bool(train[: known.gate - 1].any())
    if known.final is not None:
        assert not bool(train[known.final :].any())


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    drawn=integer_graphs(),
    neuron=st.sampled_from(NEURONS),
    coding=st.sampled_from(CODINGS),
    schedule=st.sampled_from(Schedule),
)
def test_no_run_passes_what_is_proved(
    drawn: tuple[Graph, Tensor], neuron: Neuron, coding: Coding, schedule: Schedule
) -> None:
    """Sums, loads, accumulator bits, membranes, gates and last steps, at every step of the reference."""
    graph, x = drawn
    network = to_spiking(graph, neuron, coding, schedule)
    steps = (certify(network).steps_required or 20) + 3
    trace = ReferenceEngine(network).run(x.float(), steps, record=True)
    sums, bounds, known = sums_in_time(network, x, trace), ranges(network), settling(network)
    for node in graph.nodes:
        bound, found = bounds[node.name], sums[node.name]
        by_channel = found.transpose(0, 2).flatten(1)
        assert bool((by_channel >= bound.low[:, None]).all()), node.name
        assert bool((by_channel <= bound.high[:, None]).all()), node.name
        assert float(by_channel.abs().max()) <= min(bound.peak, bound.load), node.name
        half = 2 ** (bits(bound) - 1)
        assert -half <= int(found.min()) and int(found.max()) < half
        if isinstance(node.op, Ladder):
            train, source = trace.trains[node.name], node.inputs[0]
            assert_within(known[node.name], train, schedule)
            if node.op.line is not None:
                peak = membrane_peak(node.op, neuron, bounds[source], bound)
                assert membrane_reached(node.op, sums[source], train) <= peak


@st.composite
def rising_graphs(draw: st.DrawFn) -> tuple[Graph, Tensor]:
    """A random network without negative weights or padding, and its greatest and its least input.

    Every ladder has one range, and rungs that its sums reach: so all sums are greatest, or least,
    together, and each bound can be reached.
    """
    low = draw(st.sampled_from((0, -3, -9)))
    grid = Grid(Fraction(1), low, draw(st.sampled_from((1, 7, 12))))
    net = Growing(draw, torch.Generator().manual_seed(draw(st.integers(0, 2**20))))
    shape = (2, 5, 5)
    net.known["x"] = torch.stack([torch.full(shape, grid.high), torch.full(shape, grid.low)])
    net.nodes.append(Node("x", Input(shape, grid)))
    smin, smax = draw(st.sampled_from((0, -2, -5))) if low else 0, draw(st.sampled_from((1, 6, 20)))
    _climb(net, "x", smin, smax)
    kinds = ("conv", "scale", "add", "concat", "max", "sum")
    for kind in draw(st.lists(st.sampled_from(kinds), max_size=5)):
        _rise(net, kind, smin, smax)
    source = net.nodes[-1].name
    flat = net.put(Reshape((net.known[source][0].numel(),)), source)
    out = net.put(Linear(net.whole(0, 4, 3, net.known[flat].shape[1]), None), flat)
    end = net.put(Readout(net.whole(1, 4, 3), Fraction(1)), out)
    return Graph(tuple(net.nodes), ("x",), (end,)), net.known["x"]


def _rise(net: Growing, kind: str, smin: int, smax: int) -> None:
    source = net.nodes[-1].name
    channels, size = net.known[source].shape[1], min(net.known[source].shape[2:])
    kernel = (min(2, size), min(2, size))
    if kind == "conv":
        weight = net.whole(0, 3, 2, channels, *kernel)
        source = net.put(Convolution(weight, None, ONE, NONE, ONE), source)
    elif kind == "scale":
        source = net.put(ScaleShift(net.whole(1, 3, channels, 1, 1), torch.tensor(0)), source)
    elif kind == "add":
        factors = net.whole(0, 2, channels, 1, 1), net.whole(1, 3)
        source = net.put(Add(factors), source, source)
    elif kind == "sum":
        source = net.put(SumPool(kernel, ONE, NONE), source)
    elif kind == "max":
        source = net.put(net.choose(MaxPool(kernel, ONE, NONE, ONE), GlobalMax()), source)
    else:
        net.put(Concat(1), source, source)
        return
    _climb(net, source, smin, smax)


def _climb(net: Growing, source: str, smin: int, smax: int) -> None:
    """A ladder for every channel whose first and last rung lie within what the channel reaches."""
    x = net.known[source].transpose(0, 1).flatten(1)
    rows = []
    for low, high in zip(x.amin(1).tolist(), x.amax(1).tolist(), strict=True):
        up = net.whole(min(1, high), high, smax).tolist()
        down = net.whole(min(low + 1, 0), 0, -smin).tolist()
        rows.append(sorted(down) + sorted(up))
    net.put(Ladder(torch.tensor(rows), smin, smax, Fraction(1)), source)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(drawn=rising_graphs(), neuron=st.sampled_from((STBIF(), group(3))))
def test_where_all_is_greatest_at_once_every_bound_is_reached(
    drawn: tuple[Graph, Tensor], neuron: Neuron
) -> None:
    """Factor 1 for the ends of every edge and for the bits of its accumulator."""
    graph, x = drawn
    network = to_spiking(graph, neuron)
    steps = certify(network).steps_required
    assert steps is not None
    trace = ReferenceEngine(network).run(x.float(), steps, record=True)
    bounds = ranges(network)
    for name, sums in sums_in_time(network, x, trace).items():
        bound = bounds[name]
        last = sums[-1].transpose(0, 1).flatten(1)
        top, bottom = last.amax(1).double(), last.amin(1).double()
        if len(bound.low) == 1:
            top, bottom = top.max()[None], bottom.min()[None]
        assert torch.equal(top.clamp(min=0), bound.high), name
        assert torch.equal(bottom.clamp(max=0), bound.low), name
        reached = Range(bottom.clamp(max=0), top.clamp(min=0), 0.0)
        assert bits(bound) == bits(reached)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(drawn=rising_graphs())
def test_powers_of_two_pass_a_ladder_by_less_than_half(drawn: tuple[Graph, Tensor]) -> None:
    """With overshooting neurons, bounds of tracers are at most 3/2 of what is reached."""
    graph, x = drawn
    network = to_spiking(graph, pow2())
    steps = certify(network).steps_required
    assert steps is not None
    trace = ReferenceEngine(network).run(x.float(), steps, record=True)
    sums, bounds = sums_in_time(network, x, trace), ranges(network)
    for node in network.ladders():
        found, bound = sums[node.name], bounds[node.name]
        span = int(found.max().clamp(min=0)) - int(found.min().clamp(max=0))
        assert int(bound.high.max()) - int(found.max()) <= span / 2
        assert int(found.min().clamp(max=0)) - int(bound.low.min()) <= span / 2


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(("low", "high"), [(-9, 2), (-2, 9), (0, 5), (-5, 0)])
def test_the_load_is_the_largest_sum_of_absolute_products(groups: int, low: int, high: int) -> None:
    """Every input as far from zero as it can be."""
    draw = torch.Generator().manual_seed(groups)
    weight = torch.randint(-7, 8, (4, 4 // groups, 3, 3), generator=draw)
    op = Convolution(weight, torch.tensor([5, -6, 0, 1]), ONE, NONE, ONE, groups)
    proved = on_ranges[Convolution](op, Range.of(low, high)).load
    assert proved == int(weight.abs().sum((1, 2, 3)).max()) * max(-low, high) + 6


# (neuron, tops whose climb takes the most steps that any residual within the ladder takes)
WORST = {STBIF(): (1, 2, 5, 9), group(3): (1, 4, 7, 9), pow2(): (1, 3, 11, 43)}
layers = st.sampled_from([(neuron, top) for neuron, tops in WORST.items() for top in tops])


@settings(max_examples=40, deadline=None, derandomize=True)
@given(stages=st.lists(layers, min_size=1, max_size=4))
def test_each_layer_of_a_jumping_chain_is_final_at_its_step_and_no_earlier(
    stages: list[tuple[Neuron, int]], chain: Build
) -> None:
    """Factor 1 for steps: all rungs of a ladder lie at the top of the one before.

    So a neuron jumps from 0 to its own top when that one has sent its last spike, and not before.
    """
    steps: list[Any] = []
    for index, (_, top) in enumerate(stages):
        before = stages[index - 1] if index else None
        steps.append(Linear(torch.tensor([[1]]), None))
        place = torch.arange(1, top + 1) if before is None else torch.full((top,), before[1])
        steps.append(Ladder(place[None], 0, top, Fraction(1)))
    readout = Readout(torch.ones(1, dtype=torch.int64), Fraction(1))
    first = stages[0][1]
    graph = chain((1,), *steps, readout, grid=Grid(Fraction(1), 0, first))
    names = [node.name for node in graph.nodes if isinstance(node.op, Ladder)]
    neurons = tuple((name, neuron) for name, (neuron, _) in zip(names, stages, strict=True))
    network = SpikingNetwork(graph, neurons)
    required = certify(network).steps_required
    assert required is not None
    x = torch.full((1, 1), float(first))
    trace: Trace = ReferenceEngine(network).run(x, required + 2, record=True)
    for name, known in settling(network).items():
        assert int(trace.trains[name].flatten().nonzero().max()) + 1 == known.final, name
    wanted = run_integers(graph, x.long())
    assert torch.equal(trace.outputs[required - 1], wanted)
    assert required == 1 or not torch.equal(trace.outputs[required - 2], wanted)
