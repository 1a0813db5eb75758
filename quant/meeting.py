"""Which activations need one step for all their channels: those whose channels meet at one place."""

from spikemorph.graph import Graph
from spikemorph.graph.traits import Moves, Pools, Recurs
from spikemorph.layers.activation import Activation
from spikemorph.layers.moving import channel_sources

Shapes = dict[str, tuple[int, ...]]


def meeting(graph: Graph, sizes: Shapes) -> set[str]:
    """The activations whose channels are brought to one place before a weighted layer reads them.

    All that a recurrent layer reads is one: it reads numbers of one grid.

    `graph` is prepared; `sizes` has one sample's shape after every node.
    """
    carried: dict[str, set[str]] = {}
    found: set[str] = set()
    for node in graph.nodes:
        if isinstance(node.op, Activation):
            carried[node.name] = {node.name}
            continue
        if isinstance(node.op, Recurs):
            found |= set().union(*(carried[i] for i in node.inputs))
        passes = isinstance(node.op, Moves | Pools)
        carried[node.name] = set().union(*(carried[i] for i in node.inputs)) if passes else set()
        if passes and carried[node.name]:
            alone = channel_sources(node.op, [sizes[name] for name in node.inputs])
            found |= carried[node.name] if alone is None else set()
    return found
