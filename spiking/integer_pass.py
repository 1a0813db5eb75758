"""One pass of the integer network, in the fastest numbers that cannot round it.

`graph.interpret.run_integers` computes everything in int64 and is the definition; this is for whole
test sets. Weighted layers run in the carrier that the bounds prove exact (arithmetic.py), and a probe
at extreme values checks it on this machine.
"""

import torch
from torch import Tensor

from spikemorph.graph import Node
from spikemorph.graph.interpret import integer_compute, shapes, walk
from spikemorph.layers.convolution import Convolution
from spikemorph.layers.linear import Linear

from .arithmetic import carrier, probed
from .network import SpikingNetwork
from .settling import ranges

_CPU = torch.device("cpu")


class IntegerPass:
    """The integer network of a settled spiking network, ready to run.

    Raises
    ------
    GraphError
        If a node's sums may pass 53 bits.
    """

    def __init__(self, network: SpikingNetwork) -> None:
        self.network = network
        self._compute = integer_compute(network.graph)
        bounds, sizes = ranges(network), shapes(network.graph)
        self._kinds: dict[str, torch.dtype] = {}
        for node in network.graph.nodes:
            if isinstance(node.op, Convolution | Linear):
                (source,) = node.inputs
                kind = carrier(bounds[node.name], _CPU, node.name)
                self._kinds[node.name] = probed(node.op, [bounds[source]], sizes[source], kind)

    def __call__(self, x: Tensor) -> Tensor:
        """(sample, *output shape) int64 sums of the read-out, for real inputs (sample, *shape)."""
        points = self.network.grid.to_integers(x)
        (wanted,) = self.network.graph.outputs
        edges = walk(self.network.graph, points, self._node)
        (out,) = [output for node, output in edges if node.name == wanted]
        return out

    def outputs(self, x: Tensor, batch: int = 100) -> Tensor:
        """(sample, *output shape) float64 real outputs."""
        return torch.cat([self.network.readout.real(self(part)) for part in x.split(batch)])

    def _node(self, node: Node, *inputs: Tensor) -> Tensor:
        kind = self._kinds.get(node.name, torch.int64)
        return self._compute(node, *(i.to(kind) for i in inputs)).to(torch.int64)
