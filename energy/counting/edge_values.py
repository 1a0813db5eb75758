"""What flows over every edge: increments in time, worked out from spikes, and the twin's activations.

Nothing here rounds: an edge is carried in 32-bit floats only where the spiking room proves and probes
that this is exact, else in 64-bit floats, whose 53 bits the dense engine has made sure of.
"""

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from spikemorph.graph import Input, Node
from spikemorph.graph.interpret import flow, shapes
from spikemorph.graph.tables import on_increments, on_integers
from spikemorph.graph.traits import Weighted
from spikemorph.layers.ladder import Ladder, climb
from spikemorph.layers.pooling import accumulate
from spikemorph.spiking import SpikingNetwork, Trace
from spikemorph.spiking.arithmetic import carrier, probed
from spikemorph.spiking.settling import ranges

from .layer_facts import constant_of

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
        sizes, bounds = shapes(network.graph), ranges(network, steps)
        self._kinds: dict[str, torch.dtype] = {}
        self._constants: dict[str, Tensor] = {}
        for node in network.graph.nodes:
            kind = carrier(bounds[node.name], torch.device("cpu"), node.name)
            if isinstance(node.op, Weighted):
                (source,) = node.inputs
                kind = probed(node.op, [bounds[source]], sizes[source], kind)
            self._kinds[node.name] = kind if kind is torch.float32 else torch.float64
            if node.op.adds:
                zero = torch.zeros((1, *sizes[node.inputs[0]]), dtype=torch.int64)
                self._constants[node.name] = constant_of(node, zero)

    def in_time(self, points: Tensor, trace: Trace, steps: int) -> Iterator[Visit]:
        """Every node with the increments it reads and makes, each (step, sample, *shape).

        `trace` is of a run on the integers `points` (sample, *shape) with its trains recorded; only
        its first `steps` steps are walked.
        """
        coding, grid = self.network.coding, self.network.grid

        def compute(node: Node, *sources: Tensor) -> Tensor:
            if isinstance(node.op, Input):
                return torch.stack([coding.at(points, k, grid) for k in range(1, steps + 1)])
            if isinstance(node.op, Ladder):
                return trace.trains[node.name][:steps]
            return self._increments(node, *sources)

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
                return points * times
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
        kind = self._kinds[node.name]
        inputs = [source.to(kind) for source in sources]
        if node.name not in self._constants:
            return on_integers[type(node.op)](node.op, *inputs)
        out = on_increments[type(node.op)](node.op, *inputs)
        return out + times * self._constants[node.name].to(kind)

    def _increments(self, node: Node, *sources: Tensor) -> Tensor:
        kind, row = self._kinds[node.name], on_increments[type(node.op)]
        inputs = [source.to(kind) for source in sources]
        steps = len(inputs[0])
        if row is accumulate:
            before = torch.zeros_like(inputs[0][:1])
            sums = torch.cat([before, inputs[0]]).cumsum(0)
            values = on_integers[type(node.op)](node.op, sums.flatten(0, 1))
            return values.unflatten(0, (steps + 1, -1)).diff(dim=0)
        flat = [source.flatten(0, 1) for source in inputs]
        out = _on_busy_rows(lambda *rows: row(node.op, *rows), flat).unflatten(0, (steps, -1))
        if node.name in self._constants:
            out[: steps if self.network.rate_coded else 1] += self._constants[node.name].to(kind)
        return out


def _on_busy_rows(compute: Compute, flat: list[Tensor]) -> Tensor:
    """`compute` on the rows in which something is not zero; it makes nothing of nothing."""
    busy = torch.stack([rows.flatten(1).ne(0).any(1) for rows in flat]).any(0)
    if bool(busy.all()):
        return compute(*flat)
    some = compute(*(rows[busy] for rows in flat)) if bool(busy.any()) else None
    shape = compute(*(rows[:1] for rows in flat)).shape[1:] if some is None else some.shape[1:]
    out = torch.zeros((len(busy), *shape), dtype=flat[0].dtype)
    if some is not None:
        out[busy] = some
    return out


def last_step(network: SpikingNetwork, trace: Trace, steps: int) -> int:
    """The last step at which anything entered or was sent; all of them where inputs never stop."""
    lasts = network.coding.lasts(network.grid)
    if lasts is None:
        return steps
    sent: Mapping[str, Tensor] = trace.trains
    busy = [int(t.flatten(1).ne(0).any(1).nonzero().max()) + 1 for t in sent.values() if t.any()]
    return min(steps, max([lasts, *busy]))
