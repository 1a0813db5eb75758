"""Counts against loops over single weights, on networks with every kind of path."""

import itertools
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from spikemorph.convert import to_spiking
from spikemorph.energy import Counts, count
from spikemorph.energy.counting.counts import ADDITIVE, PER_SAMPLE
from spikemorph.graph import Graph, Input, InputError, Node, Op, UnsupportedError
from spikemorph.graph.grid import Grid
from spikemorph.graph.interpret import integer_compute, walk
from spikemorph.graph.tables import Table, on_increments, on_integers, on_ranges
from spikemorph.layers.affine import ScaleShift
from spikemorph.layers.convolution import Convolution
from spikemorph.layers.joining import Add, Concat
from spikemorph.layers.ladder import Ladder
from spikemorph.layers.linear import Linear
from spikemorph.layers.pooling import MaxPool, SumPool
from spikemorph.layers.readout import Readout
from spikemorph.layers.shape import Pad, Reshape
from spikemorph.spiking import AnalogFirstStep, Coding, Neuron, ReferenceEngine, SpikingNetwork
from spikemorph.spiking.coding import BitPlane, Repeated, Thermometer
from spikemorph.spiking.neurons import STBIF, burst, pow2

ONE, SAME, NONE = (1, 1), ((1, 1), (1, 1)), ((0, 0), (0, 0))
GRID = Grid(Fraction(1), -3, 4)
STEPS = 6


def whole(generator: torch.Generator, low: int, high: int, *shape: int) -> Tensor:
    return torch.randint(low, high + 1, shape, generator=generator)


def ladder(levels: int, smin: int = 0) -> Ladder:
    rungs = torch.arange(1, levels + 1)[None] * 2 + 2 * smin
    return Ladder(rungs, smin, smin + levels, Fraction(1))


def mixed_graph(seed: int, density: float = 0.6, groups: int = 2) -> Graph:
    """Every path: padding, stride, groups, residual sum, concatenation, both pools, dilation."""
    generator = torch.Generator().manual_seed(seed)

    def weight(*shape: int) -> Tensor:
        kept = torch.rand(shape, generator=generator) < density
        return whole(generator, -3, 3, *shape) * kept

    def bias(size: int) -> Tensor:
        return whole(generator, -2, 2, size)

    conv = Convolution(weight(4, 2, 3, 3), bias(4), ONE, SAME, ONE)
    uneven = ((1, 0), (0, 2))
    deep = Convolution(weight(4, 4 // groups, 3, 3), bias(4), ONE, SAME, ONE, groups)
    strided = Convolution(weight(2, 4, 2, 3), None, (2, 1), uneven, ONE)
    factors = torch.tensor(1), torch.tensor([2, 0, -1, 1]).reshape(4, 1, 1)
    steps: list[Node] = [
        Node("x", Input((2, 4, 4), GRID)),
        Node("first", conv, ("x",)),
        Node("a", ladder(3, -1), ("first",)),
        Node("deep", deep, ("a",)),
        Node("sum", Add(factors), ("deep", "a")),
        Node("b", ladder(7), ("sum",)),
        Node("strided", strided, ("b",)),
        Node("c", ladder(2), ("strided",)),
        Node("max", MaxPool((2, 2), (1, 1), NONE, (2, 2)), ("b",)),
        Node("pool", SumPool((2, 2), (2, 2), ((1, 1), (1, 1))), ("b",)),
        Node("scaled", ScaleShift(torch.tensor([1, 2, 0, -3]).reshape(4, 1, 1), bias(1)), ("max",)),
        Node("join", Concat(1), ("scaled", "max", "x_small")),
        Node("flat", Reshape((40,)), ("join",)),
        Node("more", Reshape((36,)), ("pool",)),
        Node("all", Concat(1), ("flat", "more", "c_flat")),
        Node("out", Linear(weight(3, 92), bias(3)), ("all",)),
        Node("end", Readout(torch.tensor([1, 2, 3]), Fraction(1)), ("out",)),
    ]
    small = [
        Node("x_max", MaxPool((2, 2), (2, 2), NONE, ONE), ("x",)),
        Node("x_small", Pad(((0, 0), (0, 0))), ("x_max",)),
    ]
    flat = [Node("c_flat", Reshape((16,)), ("c",))]
    nodes = [*steps[:8], *flat, *small, *steps[8:]]
    return Graph(tuple(nodes), ("x",), ("end",))


def edges_in_time(network: SpikingNetwork, x: Tensor, steps: int) -> dict[str, Tensor]:
    """(step, sample, ...) increments of every node, from the definition's spikes and sums."""
    trains = ReferenceEngine(network).run(x.float(), steps, record=True).trains
    times = range(1, steps + 1)
    sums: dict[str, Tensor] = {}
    for node in network.graph.nodes:
        if isinstance(node.op, Input):
            entered = [network.coding.at(x, step, network.grid) for step in times]
            sums[node.name] = torch.stack(entered).cumsum(0)
        elif isinstance(node.op, Ladder):
            sums[node.name] = trains[node.name].cumsum(0)
        else:
            row, inputs = on_integers[type(node.op)], [sums[name] for name in node.inputs]
            made = [row(node.op, *(i[k] for i in inputs)) for k in range(steps)]
            if network.rate_coded and isinstance(node.op, Convolution | Linear | ScaleShift):
                nothing = row(node.op, *(torch.zeros_like(i[0]) for i in inputs))
                made = [m + k * nothing for k, m in enumerate(made)]
            sums[node.name] = torch.stack(made)
    start = {name: torch.zeros_like(s[:1]) for name, s in sums.items()}
    return {name: torch.cat([start[name], s]).diff(dim=0) for name, s in sums.items()}


def taps(op: Op, shape: tuple[int, ...]) -> list[tuple[tuple[int, ...], int]]:
    """(input cell, weight) of every product of a layer that does not fall on padding."""
    if isinstance(op, Linear):
        rows, columns = op.weight.shape
        return [((i,), int(op.weight[o, i])) for o in range(rows) for i in range(columns)]
    assert isinstance(op, Convolution)
    out, inside, *kernel = op.weight.shape
    size = [
        (n + before + after - d * (k - 1) - 1) // s + 1
        for n, (before, after), d, k, s in zip(
            shape[1:], op.padding, op.dilation, kernel, op.stride, strict=True
        )
    ]
    found = []
    for o, i, *place in itertools.product(range(out), range(inside), *map(range, size + kernel)):
        at, tap = place[: len(size)], place[len(size) :]
        channel = o // (out // op.groups) * inside + i
        cell = [
            p * s - before + t * d
            for p, t, s, d, (before, _) in zip(
                at, tap, op.stride, op.dilation, op.padding, strict=True
            )
        ]
        if all(0 <= c < n for c, n in zip(cell, shape[1:], strict=True)):
            found.append(((channel, *cell), int(op.weight[(o, i, *tap)])))
    return found


def windows(op: MaxPool | SumPool, x: Tensor) -> int:
    """How often a cell that is not zero lies in a window."""
    kernel = torch.ones(1, 1, *op.kernel).long()
    dilation = op.dilation if isinstance(op, MaxPool) else (1, 1)
    single = Convolution(kernel, None, op.stride, op.padding, dilation)
    cells = [cell for cell, _ in taps(single, (1, *x.shape[1:]))]
    return sum(int(x[c, i, j] != 0) for _, i, j in cells for c in range(len(x)))


def by_loops(op: Op, x: Tensor) -> Counter[str]:
    """Products of one layer for one input of one sample, by the size of the event."""
    counts: Counter[str] = Counter()
    for cell, weight in taps(op, tuple(x.shape)):
        value = abs(int(x[cell]))
        kept = weight != 0
        counts["mac_dense"] += 1
        counts["mac_masked"] += kept
        counts["dense"] += value != 0
        counts["masked"] += kept and value != 0
        counts["unit"] += kept and value == 1
        counts["shifted"] += kept and value > 1 and value & (value - 1) == 0
        counts["graded"] += kept and value.bit_count() > 1
        counts["bits"] += value.bit_count() * kept
    return counts


def check_weighted(network: SpikingNetwork, counts: Counts, x: Tensor) -> None:
    """Both networks, in time and at once, by loops; layers that read spikes only."""
    moving = edges_in_time(network, x, counts.steps)
    twin = {n.name: v for n, v in walk(network.graph, x, integer_compute(network.graph))}
    for index, layer in enumerate(counts.layers):
        node = network.graph[layer.node]
        if layer.node not in ("deep", "strided"):
            continue
        (source,) = node.inputs
        for sample in range(len(x)):
            own = {name: int(counts.per_sample[name][index, sample]) for name in PER_SAMPLE}
            wanted: Counter[str] = Counter()
            for step in range(counts.steps):
                wanted.update(by_loops(node.op, moving[source][step, sample]))
            for name in ("unit", "shifted", "graded"):
                assert own[f"synops_{name}"] == wanted[name], (layer.node, name)
            assert own["synops_dense_weights"] == wanted["dense"]
            assert own["synop_bits"] == wanted["bits"]
            once = by_loops(node.op, twin[source][sample])
            assert (layer.mac_dense, layer.mac_masked) == (once["mac_dense"], once["mac_masked"])
            assert (own["mac_active"], own["mac_effective"]) == (once["dense"], once["masked"])
            assert own["mac_bits"] == once["bits"]


def check_mixed(network: SpikingNetwork, counts: Counts, x: Tensor) -> None:
    """A layer that reads analog cells, 32 to 39, between spikes; pools; the join."""
    moving = edges_in_time(network, x, counts.steps)
    rows = {layer.node: layer for layer in counts.layers}
    linear = network.graph["out"].op
    assert isinstance(linear, Linear)
    fans = (linear.weight != 0).sum(0)
    events = (moving["all"] != 0).sum((0, 1))
    assert rows["out"].analog_macs == int((events * fans)[32:40].sum())
    assert rows["out"].analog_events == int(events[32:40].sum())
    assert rows["out"].synops == int((events * fans).sum()) - rows["out"].analog_macs
    for name, source in (("max", "b"), ("pool", "b"), ("x_max", "x")):
        op = network.graph[name].op
        assert isinstance(op, MaxPool | SumPool)
        flat = moving[source].flatten(0, 1)
        assert rows[name].adds == sum(windows(op, cells) for cells in flat)
        assert rows[name].adds_dense == windows(op, torch.ones_like(flat[0]))
    per_channel = (moving["a"] != 0).sum((0, 1, 3, 4)).tolist()
    assert rows["sum"].adds == per_channel[0] + per_channel[2] + per_channel[3]
    assert rows["sum"].scalings == per_channel[0]


def check_neurons(network: SpikingNetwork, counts: Counts, x: Tensor) -> None:
    """Spikes and updates of every neuron layer."""
    moving = edges_in_time(network, x, counts.steps)
    for layer in counts.layers:
        if layer.op == "Ladder":
            current, spikes = moving[network.graph[layer.node].inputs[0]], moving[layer.node]
            assert layer.spikes_out == layer.resets == int((spikes != 0).sum())
            assert layer.negative_spikes == int((spikes < 0).sum())
            assert layer.graded_spikes == int((spikes.abs() > 1).sum())
            driven = int(((current != 0) | (spikes != 0)).sum())
            assert layer.updates_driven == driven
            assert layer.updates_driven + layer.updates_idle == current.numel()
            assert layer.silent_neurons == int((spikes == 0).all(0).all(0).sum())


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10**6),
    density=st.sampled_from((0.05, 0.5, 1.0)),
    groups=st.sampled_from((1, 2)),
    neuron=st.sampled_from((pow2(), STBIF(), burst(3))),
    coding=st.sampled_from((AnalogFirstStep(), Repeated(3), BitPlane(), Thermometer(2))),
)
def test_counts_equal_loops_over_weights(
    seed: int, density: float, groups: int, neuron: Neuron, coding: Coding
) -> None:
    """Any neuron, any coding: no padded tap, no zero weight, each event by its size."""
    network = to_spiking(mixed_graph(seed, density, groups), neuron, coding)
    x = whole(torch.Generator().manual_seed(seed + 1), -3, 4, 2, 2, 4, 4)
    counts = count(network, x.float(), STEPS)
    check_weighted(network, counts, x)
    check_mixed(network, counts, x)
    check_neurons(network, counts, x)
    for layer in counts.layers:
        assert layer.synops <= layer.synops_dense_weights
        assert layer.mac_effective <= min(layer.mac_active, layer.mac_masked * len(x))


@pytest.mark.parametrize("neuron", [pow2(), STBIF()])
def test_batches_do_not_matter_and_columns_add_up(neuron: Neuron) -> None:
    network = to_spiking(mixed_graph(5), neuron)
    x = whole(torch.Generator().manual_seed(1), -3, 4, 5, 2, 4, 4).float()
    whole_batch, single = count(network, x, STEPS), count(network, x, STEPS, batch=2)
    assert whole_batch.to_dict() == single.to_dict()
    parts = [count(network, x[k : k + 1], STEPS) for k in range(5)]
    for name in PER_SAMPLE:
        assert torch.equal(whole_batch.per_sample[name], single.per_sample[name])
        assert whole_batch.total(name) == sum(part.total(name) for part in parts)
    reference = count(network, x, STEPS, engine=ReferenceEngine(network))
    assert reference.to_dict() == whole_batch.to_dict()
    plain = whole_batch.to_dict()
    for name in (*ADDITIVE, "synops"):
        assert plain["totals"][name] == sum(layer[name] for layer in plain["layers"])


def test_a_table_that_does_not_add_up_is_refused() -> None:
    counts = count(to_spiking(mixed_graph(5)), torch.zeros(1, 2, 4, 4), 2)
    wrong: Mapping[str, Tensor] = {**counts.per_sample, "adds": counts.per_sample["adds"] + 1}
    with pytest.raises(ValueError, match="adds: .* do not sum"):
        replace(counts, per_sample=wrong)


def test_work_that_cannot_be_counted_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """All such nodes are named; none counts as nothing."""

    @dataclass(frozen=True, eq=False)
    class Odd(Op):
        inner: MaxPool

    def inside(table: Table[Any]) -> Callable[..., Any]:
        return lambda op, *inputs: table[MaxPool](op.inner, *inputs)

    for table in (on_integers, on_ranges):  # rows that are gone again after the test
        monkeypatch.setitem(table._rows, Odd, inside(table))
    monkeypatch.setitem(on_increments._rows, Odd, on_increments[MaxPool])

    def made_odd(node: Node) -> Node:
        return replace(node, op=Odd(node.op)) if isinstance(node.op, MaxPool) else node

    graph = mixed_graph(5)
    odd = graph.map(lambda node: made_odd(node) if node.name in ("max", "x_max") else node)
    network = to_spiking(odd)
    with pytest.raises(
        UnsupportedError, match=r"2 nodes.*\n.*x_max.*\n.*max.*energy/counting/fan_out.py"
    ):
        count(network, torch.zeros(1, 2, 4, 4), 2)
    with pytest.raises(InputError, match="0 samples for 2 steps"):
        count(to_spiking(graph), torch.zeros(0, 2, 4, 4), 2)
