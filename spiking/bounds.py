"""Bounds of what every node of a spiking network carries at any time, transients included."""

from spikemorph.graph import GraphError, Node
from spikemorph.graph.once import once
from spikemorph.graph.traits import Recurs
from spikemorph.layers.ladder import Ladder
from spikemorph.layers.ranges import Range, by_row, edge_ranges
from spikemorph.layers.scan import inner_ranges
from spikemorph.layers.staircase import top_level

from .network import SpikingNetwork
from .neurons import Neuron


def ranges(network: SpikingNetwork, steps: int = 1) -> dict[str, Range]:
    """Bounds of the sums that every node carries at any time, transients included.

    A rate-coded network's sums grow with time: its bounds are those of one step, times `steps`.

    Raises
    ------
    GraphError
        If a rate-coded neuron has no largest spike.
    """
    found = _ranges(network)
    if network.rate_coded:
        return {name: _times(bound, steps) for name, bound in found.items()}
    return dict(found)


@once
def _ranges(network: SpikingNetwork) -> dict[str, Range]:
    found: dict[str, Range] = {}
    own = edge_ranges(network.graph, lambda node, *reads: _bound(network, found, "", node, *reads))
    return found | own


def _bound(
    network: SpikingNetwork, found: dict[str, Range], inside: str, node: Node, *sources: Range
) -> Range:
    """The bounds of a node from those of what it reads; of nodes in its body they go to `found`."""
    op, name = node.op, f"{inside}{node.name}"
    if isinstance(op, Ladder):
        return _of_ladder(network, name, op, sources[0])
    if not isinstance(op, Recurs):
        return by_row(node, *sources)
    lasting = {register.name: op.body[register.after] for register in op.body.registers}

    def within(inner: Node, *reads: Range) -> Range:
        if inner.name not in lasting:
            return _bound(network, found, f"{name}/", inner, *reads)
        after = lasting[inner.name]
        if isinstance(after.op, Ladder):
            state = _of_state(f"{name}/{after.name}", after.op, network)
            return _widest(by_row(inner), state)
        return _widest(by_row(inner), *sources)  # what was read, or what such a register held

    bounds = inner_ranges(op, sources, within)
    found.update({f"{name}/{own}": bound for own, bound in bounds.items()})
    return bounds[op.body.outputs[0]]


def _of_ladder(network: SpikingNetwork, name: str, op: Ladder, source: Range) -> Range:
    neuron = network.neuron[name]
    return _per_step(name, neuron) if network.rate_coded else _tracer(op, neuron, source)


def _of_state(name: str, op: Ladder, network: SpikingNetwork) -> Range:
    """What a register takes from a neuron: its tracer, which may pass the ladder's ends for a while."""
    neuron = network.neuron[name]
    if op.smax is None or not neuron.capped:
        raise GraphError(f"node {name!r}: a state has a top, and {neuron.name} has none")
    over = neuron.overshoot(op.smax - op.smin)
    return Range.of(op.smin - over, op.smax + over)


def _widest(*bounds: Range) -> Range:
    low, high = zip(*((float(b.low.min()), float(b.high.max())) for b in bounds), strict=True)
    return Range.of(min(low), max(high))


def _tracer(op: Ladder, neuron: Neuron, source: Range) -> Range:
    top = top_level(op, source.high) if op.smax is None or not neuron.capped else op.smax
    over = neuron.overshoot(top - op.smin)
    return Range.of(op.smin - over, top + over)


def _per_step(name: str, neuron: Neuron) -> Range:
    if neuron.up is None or neuron.down is None:
        raise GraphError(
            f"node {name!r}: a rate-coded {neuron.name} neuron has no largest spike; choose if or burst"
        )
    return Range.of(-neuron.down, neuron.up)


def _times(bound: Range, steps: int) -> Range:
    return Range(bound.low * steps, bound.high * steps, bound.load * steps)
