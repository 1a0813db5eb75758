"""Measure the memory of a spiking network: exact sizes of what it stores, proved widths of its state."""

from collections.abc import Iterator
from dataclasses import replace
from math import prod

import torch
from torch import Tensor

from spikemorph.graph import InputError, Node
from spikemorph.graph.interpret import shapes
from spikemorph.graph.nested import bodies, nested_nodes
from spikemorph.graph.packing import formats
from spikemorph.graph.packing_bits import width
from spikemorph.graph.packing_codecs import smallest
from spikemorph.graph.records import tensors_in
from spikemorph.graph.saving import TensorStore
from spikemorph.graph.tables import on_increments
from spikemorph.graph.traits import Weighted
from spikemorph.layers.ladder import Ladder, climb
from spikemorph.layers.pooling import accumulate
from spikemorph.layers.ranges import Range
from spikemorph.layers.readout import Readout
from spikemorph.spiking import SpikingNetwork
from spikemorph.spiking.bounds import ranges
from spikemorph.spiking.neurons import Alphabet, Neuron, nearest_power
from spikemorph.spiking.segments import Segment, segments

from .results import MemoryResult, StateMemory, WeightMemory
from .storage import SparseMatrix, ceil_log2


def measure_memory(network: SpikingNetwork, state_width: int = 16) -> MemoryResult:
    """What a network takes in memory; no data is needed, and it does not depend on the steps.

    Parameters
    ----------
    network : SpikingNetwork
        Integer weights, so that each layer has a width of its own.
    state_width : int
        Bits that a chip keeps a neuron's sum in; the proved widths are given beside it.

    Raises
    ------
    InputError
        If `state_width` is not 1 to 64.
    GraphError
        If a rate-coded neuron has no largest spike.
    """
    if not 1 <= state_width <= 64:
        raise InputError(f"a state of {state_width} bits: choose 1 to 64 bits for a neuron's sum")
    tally, layers, thresholds, scales = _Tally(), list[WeightMemory](), 0, 0
    for name, inner in nested_nodes(network.graph):
        node = replace(inner, name=name)
        if bodies(node.op):
            continue
        if isinstance(node.op, Weighted):
            layers.append(_weights(node, tally))
        elif isinstance(node.op, Ladder):
            thresholds += _thresholds(node.op, tally)
        else:
            scales += tally.bits(node.op)
    entry = prod(network.entry.shape) * width(network.grid.low, network.grid.high)[0]
    states = tuple(
        replace(state, node=f"{part.inside}{state.node}")
        for part in _parts(network)
        for state in _states(part.network, state_width, part.gives)
    )
    return MemoryResult(tuple(layers), states, thresholds, scales, entry, state_width)


class _Tally:
    """Counts the bits of dense tensors at the width their values need, each tensor once."""

    def __init__(self) -> None:
        self._store = TensorStore()
        self._owners: dict[str, str] = {}

    def owner(self, tensor: Tensor, node: str) -> str:
        """The first node that came with this tensor."""
        return self._owners.setdefault(self._store(tensor), node)

    def bits(self, value: object) -> int:
        """The bits of all tensors in a value that were not seen before."""
        total = 0
        for tensor in tensors_in(value):
            known = len(self._store.tensors)
            self._store(tensor)
            if len(self._store.tensors) > known:
                total += formats(tensor)["dense"].bits
        return total


def _weights(node: Node, tally: _Tally) -> WeightMemory:
    op = node.op
    assert isinstance(op, Weighted)
    found = formats(op.weight)
    best, dense = smallest(found), found["dense"]
    nonzero = int((op.weight != 0).sum())
    matrix = SparseMatrix(*dense.matrix, nonzero, dense.value_bits)
    typed = SparseMatrix(*dense.matrix, nonzero, 8 * op.weight.element_size())
    compared: dict[str, float] = {name: layout.bits for name, layout in found.items()}
    compared |= {
        "coo": matrix.coo,
        "csr_int32": typed.csr_indexed(32),
        "csr_int64": typed.csr_indexed(64),
        "entropy": matrix.entropy,
    }
    owner = tally.owner(op.weight, node.name)
    tied = None if owner == node.name else owner
    bits, index = (0, 0) if tied else (best.bits, best.index_bits)
    return WeightMemory(
        node.name, *dense.matrix, nonzero, dense.value_bits, best.format, bits, index,
        tally.bits(op.bias), compared, tied,
    )  # fmt: skip


def _thresholds(op: Ladder, tally: _Tally) -> int:
    """A ladder's rungs, or its line (threshold, scale, start), whichever takes less."""
    return min(tally.bits(form) for form in (op.rungs, op.line) if form is not None)


def _parts(network: SpikingNetwork) -> tuple[Segment, ...]:
    """The network itself, or what a recurrent one is made of."""
    if network.recurrent:
        return segments(network)
    return (Segment("", network, (), network.graph.outputs, {}),)


def _states(
    network: SpikingNetwork, state_width: int, gives: tuple[str, ...]
) -> Iterator[StateMemory]:
    """Every node that keeps sums from step to step, and what lasts from element to element."""
    bounds, sizes = ranges(network), shapes(network.graph)
    for node in network.graph.nodes:
        if isinstance(node.op, Readout) and node.name not in gives:
            continue  # it is not there: it joins what a part of a recurrent network gives
        if isinstance(node.op, Ladder):
            yield _neurons(network, node, sizes[node.name], bounds, state_width)
        elif role := _keeps_sums(network, node):
            (source,) = node.inputs
            cells = prod(sizes[source])
            proved = None if network.rate_coded else _sum_bits(bounds[source])
            yield StateMemory(node.name, role, cells, cells, proved)


def _keeps_sums(network: SpikingNetwork, node: Node) -> str | None:
    """Why a node that is no neuron keeps sums; a pool can read its neurons' tracers instead."""
    if isinstance(node.op, Readout):
        return "readout"
    if on_increments.get(type(node.op)) is not accumulate:
        return None
    before = network.graph[node.inputs[0]]
    own = isinstance(before.op, Ladder) and _has_tracer(before.op, network.neuron[before.name])
    return None if own else "pool"


def _has_tracer(op: Ladder, neuron: Neuron) -> bool:
    """Whether a neuron must know what it sent; without a cap or retraction, V alone decides."""
    return op.line is None or neuron.down != 0 or neuron.capped


def _neurons(
    network: SpikingNetwork,
    node: Node,
    shape: tuple[int, ...],
    bounds: dict[str, Range],
    state_width: int,
) -> StateMemory:
    op, neuron, (source,) = node.op, network.neuron[node.name], node.inputs
    assert isinstance(op, Ladder)
    cells, sent = prod(shape), bounds[node.name]
    low, high = int(sent.low.min()), int(sent.high.max())
    traced = _has_tracer(op, neuron)
    if network.rate_coded:  # sums and tracers grow with time: no proof, and what is sent in a step
        tracer = state_width if traced else 0
        spike = ceil_log2(high - low + 1)
        return StateMemory(node.name, "neuron", cells, cells, None, tracer, spike)
    live = _live_channels(op, bounds[source], shape[0]) * (cells // shape[0])
    tracer = width(low, high)[0] if traced else 0
    proved, spike = _sum_bits(bounds[source]), _spike_bits(neuron, high - low)
    return StateMemory(node.name, "neuron", cells, live, proved, tracer, spike)


def _live_channels(op: Ladder, source: Range, channels: int) -> int:
    """Channels that reach a level other than 0 for some sum that their weights allow."""
    ends = torch.stack([source.low.expand(channels), source.high.expand(channels)])
    levels = climb(op, ends.to(torch.int64))
    return int((levels != 0).any(0).sum())


def _spike_bits(neuron: Neuron, span: int) -> int:
    """Bits that tell apart what a neuron may send in a step; `span` is its largest residual."""
    if neuron.alphabet is Alphabet.DESCENDING:
        return 1  # its size follows from the step
    if neuron.alphabet is Alphabet.POWERS:
        return ceil_log2(2 * nearest_power(max(span, 1)).bit_length() + 1)
    up, down = (span if most is None else min(most, span) for most in (neuron.up, neuron.down))
    return ceil_log2(up + down + 1)


def _sum_bits(bound: Range) -> int:
    """Bits of a signed number that holds every sum within the bounds, as the certificate counts."""
    return width(min(int(bound.low.min()), -1), int(bound.high.max()))[0]
