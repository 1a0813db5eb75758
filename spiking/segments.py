"""Cut a recurrent network into parts that settle one after another, each a network without recurrence.

A recurrent layer is one part, run element by element: its body, whose registers are inputs like any
other, and whose outputs are what lasts and what leaves. What lies between recurrent layers are parts that
run once. A part starts when those before it have settled, so its inputs come all at once.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from math import prod

import torch
from torch import Tensor

from spikemorph.graph import Graph, Input, Node
from spikemorph.graph.brief import brief_repr
from spikemorph.graph.grid import Grid
from spikemorph.graph.interpret import shapes
from spikemorph.graph.once import once
from spikemorph.graph.traits import Ends, Recurs
from spikemorph.layers.joining import Concat
from spikemorph.layers.readout import Readout
from spikemorph.layers.shape import Reshape

from .bounds import ranges
from .network import SpikingNetwork

_ONE = Readout(torch.ones(1, dtype=torch.int64), Fraction(1))


@dataclass(frozen=True)
class Segment:
    """One part of a network.

    Parameters
    ----------
    inside : str
        What the qualified names of its nodes begin with; empty for a part of the network's own graph.
    network : SpikingNetwork
        The part, without recurrence. Its inputs lie side by side in what it is given, and so do
        `gives` in what it puts out.
    reads : tuple of str
        The nodes of the whole network that its inputs hold, registers left out.
    gives : tuple of str
        Its nodes that others, or later elements, read.
    sizes : mapping of str to tuple of int
        One sample's shape of every node in `gives`.
    node : Node or None
        The recurrent layer that it is the body of.
    """

    inside: str
    network: SpikingNetwork
    reads: tuple[str, ...]
    gives: tuple[str, ...]
    sizes: Mapping[str, tuple[int, ...]]
    node: Node | None = None

    __repr__ = brief_repr

    def packed(self, given: Mapping[str, Tensor]) -> Tensor:
        """What its inputs hold, by name, as the network is given it."""
        names = self.network.graph.inputs
        if len(names) == 1:
            return given[names[0]]
        return torch.cat([given[name].flatten(1) for name in names], 1)

    def given(self, outputs: Tensor) -> dict[str, Tensor]:
        """Every node in `gives`, (sample, *shape), from what the network puts out (sample, number)."""
        parts = outputs.flatten(1).split([prod(self.sizes[name]) for name in self.gives], 1)
        pairs = zip(self.gives, parts, strict=True)
        return {name: part.reshape(-1, *self.sizes[name]) for name, part in pairs}


def segments(network: SpikingNetwork) -> tuple[Segment, ...]:
    """The parts of a network, in the order in which they run; of one without recurrence, itself."""
    return _segments(network)


@once
def _segments(network: SpikingNetwork) -> tuple[Segment, ...]:
    graph, found = network.graph, list[Segment]()
    depth: dict[str, int] = {}
    for node in graph.nodes:
        below = (depth[name] + isinstance(graph[name].op, Recurs) for name in node.inputs)
        depth[node.name] = max(below, default=0)
    for level in range(max(depth.values()) + 1):
        here = [node for node in graph.nodes if depth[node.name] == level and node.inputs]
        flat = [node for node in here if not isinstance(node.op, Recurs)]
        if flat:
            found.append(_flat(network, flat))
        found += [_body(network, node) for node in here if isinstance(node.op, Recurs)]
    return tuple(found)


def _flat(network: SpikingNetwork, nodes: list[Node]) -> Segment:
    """A part of the network's own graph."""
    graph, names = network.graph, {node.name for node in nodes}
    reads = tuple(dict.fromkeys(i for node in nodes for i in node.inputs if i not in names))
    gives = tuple(
        node.name
        for node in nodes
        if node.name in graph.outputs
        or any(user.name not in names for user in graph.users(node.name))
    )
    part = Graph((*_entries(network, "", graph, reads), *nodes), reads, gives)
    return _segment(network, "", part, reads)


def _body(network: SpikingNetwork, node: Node) -> Segment:
    """The part that a recurrent layer is."""
    op, inside = node.op, f"{node.name}/"
    assert isinstance(op, Recurs)
    body = op.body
    names = (*body.inputs, *(register.name for register in body.registers))
    entries = _entries(network, inside, body, names)
    nodes = (other for other in body.nodes if other.inputs)
    gives = dict.fromkeys((*body.outputs, *(register.after for register in body.registers)))
    part = Graph((*entries, *nodes), names, tuple(gives))
    return replace(_segment(network, inside, part, node.inputs), node=node)


def _entries(
    network: SpikingNetwork, inside: str, graph: Graph, names: Iterable[str]
) -> list[Node]:
    """Inputs for what enters a part: whole numbers within their bounds."""
    bounds, sizes = ranges(network), shapes(graph)
    found = []
    for name in names:
        bound = bounds[f"{inside}{name}"].whole()
        grid = Grid(Fraction(1), int(bound.low), max(int(bound.high), 1))
        found.append(Node(name, Input(sizes[name], grid)))
    return found


def _segment(network: SpikingNetwork, inside: str, part: Graph, reads: tuple[str, ...]) -> Segment:
    """A part as a network: its outputs, if they are not the whole network's, side by side."""
    sizes, gives = shapes(part), part.outputs
    if not isinstance(part[gives[-1]].op, Ends):
        part = _side_by_side(part, sizes)
    own = {f"{inside}{node.name}" for node in part.nodes}
    neurons = tuple(
        (name.removeprefix(inside), neuron) for name, neuron in network.neurons if name in own
    )
    flat = SpikingNetwork(part, neurons, network.coding, network.schedule, network.carry)
    return Segment(inside, flat, reads, gives, {name: sizes[name] for name in gives})


def _side_by_side(part: Graph, sizes: Mapping[str, tuple[int, ...]]) -> Graph:
    flat = [
        Node(part.fresh(f"{name}.flat"), Reshape((prod(sizes[name]),)), (name,))
        for name in part.outputs
    ]
    beside = Node(part.fresh("outputs"), Concat(1), tuple(node.name for node in flat))
    end = Node(part.fresh("readout"), _ONE, (beside.name,))
    return Graph((*part.nodes, *flat, beside, end), part.inputs, (end.name,))
