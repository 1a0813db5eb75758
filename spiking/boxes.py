"""Boxes of what a spiking network carries at any step, settled or not, for inputs in a box."""

from spikemorph.graph import Node
from spikemorph.layers.boxes import Box, edge_boxes, of_node
from spikemorph.layers.ladder import Ladder

from .network import SpikingNetwork


def boxes_at_any_time(network: SpikingNetwork, box: Box) -> dict[str, Box]:
    """(sample, *shape) float64 ends of every node's sums at every step, transients included.

    Parameters
    ----------
    network : SpikingNetwork
        Without recurrence, of ladders with tops and neurons that keep to them.
    box : Box
        (sample, *shape) grid points that inputs lie between.

    Sums begin at zero. Every coding injects parts of one sign, so what has entered lies between zero
    and the input, and what a linear node has formed between zero and what its row makes of that. A
    neuron's tracer goes towards its ladder's level of the sums, and passes it by its overshoot at most:
    so it stays between zero and the levels that its sums may have, or so far beyond.
    """

    def compute(node: Node, *reads: Box) -> Box:
        made = of_node(node, *reads)
        if isinstance(node.op, Ladder):
            assert node.op.smax is not None
            over = network.neuron[node.name].overshoot(node.op.smax - node.op.smin)
            rested = _with_rest(made)
            return Box(rested.lower - over, rested.upper + over)
        return _with_rest(made)

    return {node.name: own for node, own in edge_boxes(network.graph, _with_rest(box), compute)}


def _with_rest(box: Box) -> Box:
    """The box, and zero: what every sum is before anything was sent."""
    return Box(box.lower.clamp(max=0), box.upper.clamp(min=0))
