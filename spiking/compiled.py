"""What is known of a network before it runs: bounds, number types, gates, and every node made ready.

Engines and kernels read this; none of them proves again that its numbers cannot round.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from spikemorph.graph import GraphError
from spikemorph.graph.interpret import shapes
from spikemorph.layers.carriers import carrier
from spikemorph.layers.ladder import Ladder, along_channels
from spikemorph.layers.staircase import Staircase, staircase

from .bounds import ranges
from .increments import passages
from .network import SpikingNetwork
from .neurons import Neuron
from .settling import WHOLE, membrane_peak, restless, settling


@dataclass(frozen=True, eq=False)
class Layer:
    """One neuron layer, ready.

    Parameters
    ----------
    op : Ladder
        What it settles to.
    neuron : Neuron
        How it gets there.
    kind : torch.dtype
        What its spikes and its tracer are carried in.
    stairs : Staircase
        Its level from its sums, as carried.
    gate : int
        The first step at which it may fire.
    """

    op: Ladder
    neuron: Neuron
    kind: torch.dtype
    stairs: Staircase
    gate: int

    def retraction_floor(self, sums: Tensor) -> Tensor | None:
        """With a negative margin: the least tracer from which a spike may be taken back, else None.

        ``V <= -margin theta`` with ``V = scale C + start - theta S`` is ``S >= (scale C + start) /
        theta + margin``.
        """
        margin, line = self.neuron.negative_margin, self.op.line
        if margin == 0 or line is None:
            return None
        whole = sums.long()
        threshold, scale, start = (
            along_channels(t, whole) for t in (line.threshold, line.scale, line.start)
        )
        top = (whole * scale + start) * margin.denominator + margin.numerator * threshold
        least = -torch.div(-top, threshold * margin.denominator, rounding_mode="floor")
        return least.to(sums.dtype)


class Compiled:
    """A network made ready for a device and a number of steps.

    Parameters
    ----------
    network : SpikingNetwork
        The network.
    device : torch.device
        Where it will run.
    most_steps : int
        The most steps a rate-coded network will be run for: its sums grow with time.

    Attributes
    ----------
    sizes : mapping of str to tuple of int
        The shape of every node's output for one sample.
    bounds : mapping of str to Range
        Of the sums that every node carries, transients included.
    kinds : mapping of str to torch.dtype
        What every node's increments and sums are carried in.
    passages : mapping of str to Passage
        Every node that is no neuron and no input.
    layers : mapping of str to Layer
        Every neuron layer.
    restless : int or None
        The last step at which the clock alone may make something happen; None if there is no last.

    Raises
    ------
    GraphError
        If a node's sums may pass 62 bits, or a membrane potential 63.
    UnsupportedError
        If an op has no meaning on increments.
    """

    def __init__(self, network: SpikingNetwork, device: torch.device, most_steps: int) -> None:
        graph = network.graph
        self.network, self.device, self.most_steps = network, device, most_steps
        self.sizes, self.bounds = shapes(graph), ranges(network, most_steps)
        self.kinds = {
            name: carrier(bound.increments.load, name) for name, bound in self.bounds.items()
        }
        self.passages = passages(graph, self.bounds, device, repeats=network.rate_coded)
        known = settling(network)
        self.restless = restless(network, known)
        self.layers = {
            node.name: self._layer(node.name, node.inputs[0], known[node.name].gate)
            for node in network.ladders()
        }

    def _layer(self, name: str, source: str, gate: int) -> Layer:
        op, neuron = self.network.graph[name].op, self.network.neuron[name]
        assert isinstance(op, Ladder)
        if membrane_peak(op, neuron, self.bounds[source], self.bounds[name]) >= WHOLE:
            raise GraphError(
                f"node {name!r}: its membrane potential may pass 63 bits; use fewer weight "
                "bits or a coarser input grid"
            )
        stairs = staircase(op, self.bounds[source], self.kinds[source], capped=neuron.capped)
        return Layer(op, neuron, self.kinds[name], stairs, gate)
