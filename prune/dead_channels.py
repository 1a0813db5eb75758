"""Channels that a network does not need: constant zeros, and those that no weight reads."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from spikemorph.graph import Graph, Input, Node, Op
from spikemorph.graph.brief import brief_repr
from spikemorph.graph.tables import Table
from spikemorph.graph.traits import Moves, Pools, Weighted
from spikemorph.layers.activation import Activation
from spikemorph.layers.affine import ScaleShift
from spikemorph.layers.joining import Add
from spikemorph.layers.masks import weight_of, weighted_nodes
from spikemorph.layers.normalisation import BatchNorm

from .channel_groups import Coupling, Stock, couple_channels

# Which numbers of an op's output vary with the network's input: (op, *those of its inputs) -> the same,
# float64, above 0 where a number varies. Key: op class. Without a row, all may vary.
varies: Table[Callable[..., Tensor]] = Table("varies")


@dataclass(frozen=True, eq=False)
class Constant:
    """What is the same for every input: `varies` is above 0 where a number is not.

    Both are (1, *sample shape) float64; `value` is 0 where it varies.
    """

    varies: Tensor
    value: Tensor

    __repr__ = brief_repr

    @property
    def zero(self) -> Tensor:
        """Where the number is 0 for every input."""
        return (self.varies == 0) & (self.value == 0)


def removable_dead_channels(graph: Graph) -> dict[str, tuple[int, ...]]:
    """The channels that can be removed without changing any output.

    Every weight that reads such a channel is zero, or what it reads is zero for every input: because
    no weight leads to the channel, and its constant, if it has one, does not get through the
    activation. Removing one may free others before it; these are found too. Channels that are coupled
    are dead together or not at all; those that recurrent layers read or hold all stay. A layer that is
    dead altogether keeps its first channel.

    Parameters
    ----------
    graph : Graph
        A float graph, usually after its weights were pruned one by one.

    Returns
    -------
    dict
        Output channels by weighted node, for `remove_channels`.
    """
    coupling, known = couple_channels(graph), constants(graph)
    stock = Stock(coupling)
    dead: list[int] = []
    while True:
        unneeded = _unneeded(coupling, known, coupling.kept(dead))
        more = [k for k in unneeded if k not in dead]
        before = len(dead)
        for group in reversed(more):
            if stock.emptied_by(group) is None:
                stock.take(group)
                dead.append(group)
        if len(dead) == before:
            return coupling.channels_of(dead)


@torch.no_grad()
def constants(graph: Graph) -> dict[str, Constant]:
    """What is constant at every node, found by running the graph on what is known, in float64."""
    known: dict[str, Constant] = {}
    for node in graph.nodes:
        known[node.name] = _constant(node, [known[name] for name in node.inputs])
    return known


def _constant(node: Node, sources: list[Constant]) -> Constant:
    if isinstance(node.op, Input):
        one = torch.ones(1, *node.op.shape, dtype=torch.float64)
        return Constant(one, torch.zeros_like(one))
    value = node.op(*(source.value for source in sources))
    moving = torch.ones_like(value)
    if type(node.op) in varies:
        moving = varies[type(node.op)](node.op, *(source.varies for source in sources))
    return Constant(moving, torch.where(moving > 0, 0.0, value))


def _unneeded(coupling: Coupling, known: dict[str, Constant], kept: Tensor) -> list[int]:
    """The groups that may go, and that no weight of a kept channel reads where they are not zero."""
    needed = torch.tensor([g.pinned is not None or not g.members for g in coupling.groups])
    for name in {*coupling.outputs} - {node.name for node in coupling.graph.nodes}:
        needed[coupling.outputs[name].channels] = True
    for node in weighted_nodes(coupling.graph):
        assert isinstance(node.op, Weighted)
        if node.op.groups > 1:
            continue  # what it reads and what it makes are the same groups
        (source,) = node.inputs
        zero = known[source].zero[0]
        axis = node.op.reads % zero.dim()
        rows = kept[coupling.outputs[node.name].channels]
        read = (weight_of(node)[rows] != 0).movedim(1, 0).flatten(1).any(1)
        nonzero = ~zero.movedim(axis, 0).reshape(zero.shape[axis], -1).all(1)
        needed[coupling.outputs[source].along(axis)[read & nonzero]] = True
    found: list[int] = (~needed).nonzero()[:, 0].tolist()
    return found


@varies(Moves, Pools)
def _moved(op: Op, *sources: Tensor) -> Tensor:
    return op(*sources)


@varies(Activation)
def _as_before(op: Op, source: Tensor) -> Tensor:
    return source


@varies(Weighted)
def _read(op: Weighted, source: Tensor) -> Tensor:
    return op.having(weight=(op.weight != 0).double(), bias=None)(source)


@varies(Add)
def _added(op: Add, *sources: Tensor) -> Tensor:
    return replace(op, factors=tuple((f != 0).double() for f in op.factors))(*sources)


@varies(ScaleShift)
def _scaled(op: ScaleShift, source: Tensor) -> Tensor:
    return source * (op.gain != 0)


@varies(BatchNorm)
def _normalised(op: BatchNorm, source: Tensor) -> Tensor:
    return source * (op.gain != 0).reshape(-1, *[1] * (source.dim() - 2))
