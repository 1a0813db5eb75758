"""A recorded run gone through again with torch layers: what public counters can be shown."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spikemorph.graph import Input, Node
from spikemorph.graph.interpret import flow
from spikemorph.graph.tables import on_increments, on_integers
from spikemorph.graph.traits import Weighted
from spikemorph.layers.ladder import Ladder
from spikemorph.layers.linear import Linear
from spikemorph.layers.masks import weighted_nodes
from spikemorph.layers.pooling import accumulate
from spikemorph.spiking import DenseEngine, SpikingNetwork


@dataclass(frozen=True, eq=False)
class Fed:
    """One weighted layer as a torch layer (float64, no bias), and its input at every step."""

    name: str
    module: nn.Conv2d | nn.Linear
    inputs: tuple[Tensor, ...]  # of each step, (sample, *shape)

    def ones(self) -> "Fed":
        """The same events, each of size 1."""
        return Fed(self.name, self.module, tuple((x != 0).to(x) for x in self.inputs))


def as_module(op: Weighted) -> nn.Conv2d | nn.Linear:
    """A weighted op of an integer graph as the torch layer that public counters know."""
    outside, inside = op.weight.shape[:2]
    made: nn.Conv2d | nn.Linear
    if isinstance(op, Linear):
        made = nn.Linear(inside, outside, bias=False)
    else:
        if op.axes != 2 or any(before != after for before, after in op.padding):
            raise SystemExit("only convolutions in two axes with even padding are compared")
        padding, kernel = tuple(before for before, _ in op.padding), tuple(op.weight.shape[2:])
        made = nn.Conv2d(
            inside * op.groups, outside, kernel, op.stride, padding, op.dilation, op.groups, False
        )
    made.weight = nn.Parameter(op.weight.to(torch.float64), requires_grad=False)
    return made


class Replay:
    """A recorded run, gone through again with torch layers; ours are used for pools and shapes only."""

    def __init__(self, network: SpikingNetwork, x: Tensor, steps: int) -> None:
        self.network, self.points = network, network.grid.to_integers(x)
        engine = DenseEngine(network, most_steps=steps)
        self.trace = engine.run(x, steps, record=True)
        ops = {n.name: n.op for n in weighted_nodes(network.graph) if isinstance(n.op, Weighted)}
        self.modules = {name: as_module(op) for name, op in ops.items()}
        self.inputs: dict[str, list[Tensor]] = {name: [] for name in ops}
        self._sums: dict[str, Tensor] = {}
        out = sum(self._step(k) for k in range(1, steps + 1))
        constant = self.trace.outputs[-1] - out  # biases: the same for every sample
        if not torch.equal(constant, constant[:1].expand_as(constant)):
            raise SystemExit("the torch layers do not make the network's outputs")

    def fed(self) -> tuple[Fed, ...]:
        """Every weighted layer with its inputs."""
        return tuple(Fed(n, m, tuple(self.inputs[n])) for n, m in self.modules.items())

    def _step(self, k: int) -> Tensor:
        """What the read-out adds at step `k`, without biases; (sample, *shape)."""

        def compute(node: Node, *sources: Tensor) -> Tensor:
            return self._compute(node, k, *sources)

        for node, made in flow(self.network.graph, compute):
            if node.name == self.network.graph.outputs[0]:
                return made
        raise AssertionError("a graph makes its outputs")

    def _compute(self, node: Node, k: int, *sources: Tensor) -> Tensor:
        if isinstance(node.op, Input):
            return self.network.coding.at(self.points, k, self.network.grid).double()
        if isinstance(node.op, Ladder):
            return self.trace.trains[node.name][k - 1].double()
        if node.name in self.modules:
            self.inputs[node.name].append(sources[0])
            made: Tensor = self.modules[node.name](sources[0])
            return made
        row = on_increments[type(node.op)]
        if row is not accumulate:
            return row(node.op, *sources)
        before = self._sums.get(node.name, torch.zeros_like(sources[0]))
        self._sums[node.name] = now = before + sources[0]
        pool = on_integers[type(node.op)]
        return pool(node.op, now) - pool(node.op, before)
