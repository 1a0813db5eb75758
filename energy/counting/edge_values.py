"""What flows over every edge: increments in time, worked out from spikes, and the twin's activations.

Nothing here rounds: increments pass a node as in the dense engine (`spiking.increments`).
"""

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from spikemorph.graph import Input, Node
from spikemorph.graph.interpret import flow
from spikemorph.layers.ladder import Ladder, climb
from spikemorph.spiking import SpikingNetwork, Trace
from spikemorph.spiking.bounds import ranges
from spikemorph.spiking.increments import Held, passages

Visit = tuple[Node, tuple[Tensor, ...], Tensor]  # a node, what it reads, what it makes
Compute = Callable[..., Tensor]


class Edges:
    """The edges of one network, ready to be walked.

    Parameters
    ----------
    network : SpikingNetwork
        The network.
    steps : int
        The most steps it is run for.
    """

    def __init__(self, network: SpikingNetwork, steps: int) -> None:
        self.network = network
        bounds = ranges(network, steps)
        self._passages = passages(
            network.graph, bounds, torch.device("cpu"), repeats=network.rate_coded
        )

    def in_time(self, points: Tensor, trace: Trace, steps: int) -> Iterator[Visit]:
        """Every node with the increments it reads and makes, each (step, sample, *shape).

        `trace` is of a run on the integers `points` (sample, *shape) with its trains recorded; only
        its first `steps` steps are walked.
        """

        when = range(1, steps + 1)
        entering = {
            name: torch.stack([self.network.injected(name, points, k) for k in when])
            for name in self.network.graph.inputs
        }
        trains = {name: train[:steps] for name, train in trace.trains.items()}
        yield from self.flowing(entering, trains, {})

    def flowing(
        self,
        entering: Mapping[str, Tensor],
        trains: Mapping[str, Tensor],
        held: dict[str, Held],
    ) -> Iterator[Visit]:
        """As `in_time`, from what enters at every input and what every neuron layer sends.

        What nodes hold at the end goes to `held`; what it has at the beginning they go on from.
        """

        def compute(node: Node, *sources: Tensor) -> Tensor:
            if isinstance(node.op, Input):
                return entering[node.name]
            if isinstance(node.op, Ladder):
                return trains[node.name]
            held[node.name], out = self._passages[node.name](held.get(node.name), *sources)
            return out

        yield from self._visits(compute)

    def at_once(self, points: Tensor, steps: int) -> Iterator[Visit]:
        """Every node of the twin with the integers it reads and makes, each (sample, *shape).

        A rate-coded network's twin is the quantised network that its rates stand for: inputs and
        biases `steps` times, levels up to as many as can be sent.
        """
        times = steps if self.network.rate_coded else 1

        def compute(node: Node, *sources: Tensor) -> Tensor:
            op = node.op
            if isinstance(op, Input):
                return self.network.part(node.name, points) * times
            if isinstance(op, Ladder):
                level = climb(op, sources[0].to(torch.int64))
                most = self.network.neuron[node.name].up
                return level if most is None or times == 1 else level.clamp(max=most * times)
            return self._settled(node, times, *sources)

        yield from self._visits(compute)

    def _visits(self, compute: Compute) -> Iterator[Visit]:
        read: dict[str, tuple[Tensor, ...]] = {}

        def noted(node: Node, *sources: Tensor) -> Tensor:
            read[node.name] = sources
            return compute(node, *sources)

        for node, output in flow(self.network.graph, noted):
            yield node, read.pop(node.name), output

    def _settled(self, node: Node, times: int, *sources: Tensor) -> Tensor:
        """A node of the twin: what increments in one step make of it, its constant `times` over."""
        passage = self._passages[node.name]
        _, out = passage(None, *(source[None] for source in sources))
        if times > 1 and passage.constant is not None:
            out += (times - 1) * passage.constant
        return out[0]


def last_step(network: SpikingNetwork, trace: Trace, steps: int) -> int:
    """The last step at which anything entered or was sent; all of them where inputs never stop."""
    lasts = network.lasts
    if lasts is None:
        return steps
    sent: Mapping[str, Tensor] = trace.trains
    busy = [int(t.flatten(1).ne(0).any(1).nonzero().max()) + 1 for t in sent.values() if t.any()]
    return min(steps, max([lasts, *busy]))
