"""Which activations need one step for all their channels: those whose channels meet at one place."""

from spikemorph.graph import Graph, Node
from spikemorph.layers.activation import Activation
from spikemorph.layers.joining import Concat

from .prepare import PASSES_SPIKES
from .scales import channel_sources

Shapes = dict[str, tuple[int, ...]]


def meeting(graph: Graph, sizes: Shapes) -> set[str]:
    """The activations whose channels are brought to one place before a weighted layer reads them.

    `graph` is prepared; `sizes` has one sample's shape after every node.
    """
    carried: dict[str, set[str]] = {}
    found: set[str] = set()
    for node in graph.nodes:
        if isinstance(node.op, Activation):
            carried[node.name] = {node.name}
            continue
        passes = isinstance(node.op, PASSES_SPIKES)
        carried[node.name] = set().union(*(carried[i] for i in node.inputs)) if passes else set()
        if passes and carried[node.name] and _mixes(node, sizes):
            found |= carried[node.name]
    return found


def _mixes(node: Node, sizes: Shapes) -> bool:
    if isinstance(node.op, Concat):
        return node.op.axis != 1
    return channel_sources(node.op, sizes[node.inputs[0]]) is None
