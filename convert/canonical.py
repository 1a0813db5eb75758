"""The canonical form: batch norms, normalisation and average pools folded, idle nodes gone."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from spikemorph.graph import Graph, Node, Op
from spikemorph.graph.interpret import shapes
from spikemorph.layers.activation import Activation
from spikemorph.layers.affine import ScaleShift
from spikemorph.layers.convolution import Convolution
from spikemorph.layers.joining import Add
from spikemorph.layers.linear import Linear
from spikemorph.layers.normalisation import BatchNorm
from spikemorph.layers.pooling import AveragePool, GlobalAverage, GlobalMax, MaxPool, SumPool
from spikemorph.layers.shape import Identity, Transpose
from spikemorph.layers.windows import added, pairs

from .fold_scales import fold_once

Pass = Callable[[Graph], Graph]
_MOVERS = (MaxPool, GlobalMax, Transpose)
_SUMS = (Convolution, Linear, Add, ScaleShift, SumPool, MaxPool, GlobalMax)


def drop_idle(graph: Graph) -> Graph:
    """Drop nodes that do nothing (dropout, casts, pools of one cell, scales of one)."""
    for node in graph.nodes:
        if _is_idle(node.op):
            graph = graph.rename(node.name, graph[node.name].inputs[0])
    return graph


def _is_idle(op: Op) -> bool:
    if isinstance(op, ScaleShift):
        return bool((op.gain == 1).all()) and bool((op.shift == 0).all())
    if isinstance(op, AveragePool | MaxPool):
        around = added(op.padding, op.overhang) if isinstance(op, AveragePool) else op.padding
        return {*op.kernel, *op.stride, *(n + 1 for pair in around for n in pair)} == {1}
    return isinstance(op, Identity)


def drop_dead(graph: Graph) -> Graph:
    """Drop nodes that no output depends on; the input stays."""
    alive = set(graph.outputs) | set(graph.inputs)
    for node in reversed(graph.nodes):
        if node.name in alive:
            alive.update(node.inputs)
    return graph.with_nodes(node for node in graph.nodes if node.name in alive)


def open_batch_norms(graph: Graph) -> Graph:
    """Write batch norms as scale and shift: ``gain / sqrt(variance + eps)`` per channel."""
    sizes = shapes(graph)

    def opened(node: Node) -> Node:
        if not isinstance(node.op, BatchNorm):
            return node
        op, wide = node.op, (-1, *[1] * (len(sizes[node.name]) - 1))
        gain = op.gain.double() / torch.sqrt(op.variance.double() + op.eps)
        shift = op.shift.double() - op.mean.double() * gain
        return replace(node, op=ScaleShift(gain.reshape(wide), shift.reshape(wide)))

    return graph.map(opened)


def open_averages(graph: Graph) -> Graph:
    """Write averages as sums and a scale of one over the number of cells that count."""
    sizes = shapes(graph)
    for node in graph.nodes:
        source = sizes[node.inputs[0]][1:] if node.inputs else ()
        if isinstance(node.op, GlobalAverage):
            zero = pairs(0, len(source))
            summed = SumPool(source, source, zero)
            counts = torch.tensor(float(torch.Size(source).numel()), dtype=torch.float64)
        elif isinstance(node.op, AveragePool):
            summed, counts = node.op.summed, node.op.counts(source)
            first = counts.reshape(-1)[0]
            counts = first if bool((counts == first).all()) else counts[None]
        else:
            continue
        name = graph.fresh(f"{node.name}.sum")
        scale = ScaleShift(1 / counts, torch.tensor(0.0))
        graph = graph.substitute(
            node.name, Node(name, summed, node.inputs), Node(node.name, scale, (name,))
        )
    return graph


def fold_scales(graph: Graph) -> Graph:
    """Fold scales and shifts into weighted layers, until none can be folded or moved further."""
    known = shapes(graph)
    while (changed := fold_once(graph, known)) is not graph:
        graph = changed
    return graph


def open_linears(graph: Graph) -> Graph:
    """Write linear layers over positions as convolutions of one cell: features become channels.

    Scales that can be folded only then are folded.
    """
    sizes, before = shapes(graph), graph
    for node in graph.nodes:
        source = sizes[node.inputs[0]] if node.inputs else ()
        if not isinstance(node.op, Linear) or not 2 <= len(source) <= 4:
            continue
        axes = len(source) - 1
        ones, zero = (1,) * axes, pairs(0, axes)
        weight, mask = (
            None if t is None else t.reshape(*t.shape, *ones)
            for t in (node.op.weight, node.op.mask)
        )  # fmt: skip
        assert weight is not None
        cell = Convolution(weight, node.op.bias, ones, zero, ones, mask=mask)
        turned, mixed = graph.fresh(f"{node.name}.turned"), graph.fresh(f"{node.name}.mixed")
        graph = graph.substitute(
            node.name,
            Node(turned, Transpose((0, axes + 1, *range(1, axes + 1))), node.inputs),
            Node(mixed, cell, (turned,)),
            Node(node.name, Transpose((0, *range(2, axes + 2), 1)), (mixed,)),
        )
    return graph if graph is before else fold_scales(graph)


def activate_early(graph: Graph) -> Graph:
    """Put activations before max-pools and transposes of sums, so that these move spikes.

    A maximum commutes with every non-decreasing function, ``f(max x) = max f(x)``, and a transpose with
    any function of single numbers; before it, channels are still on axis 1.
    """
    while (changed := _activate_one(graph)) is not graph:
        graph = changed
    return graph


def _activate_one(graph: Graph) -> Graph:
    """Swap one activation with the node before it; the same graph where there is none to swap."""
    for node in graph.nodes:
        mover = graph[node.inputs[0]] if isinstance(node.op, Activation) else node
        if not isinstance(mover.op, _MOVERS) or graph.only_user(mover.name) is not node:
            continue
        if isinstance(graph[mover.inputs[0]].op, _SUMS):
            name = graph.fresh(f"{node.name}.early")
            early, late = Node(name, node.op, mover.inputs), Node(node.name, mover.op, (name,))
            graph = graph.substitute(node.name, early, late)
            return graph.with_nodes(n for n in graph.nodes if n.name != mover.name)
    return graph


def join_transposes(graph: Graph) -> Graph:
    """Make one transpose of two in a row, and nothing of one that moves nothing."""
    for node in graph.nodes:
        if not isinstance(node.op, Transpose):
            continue
        order, (source,) = node.op.order, graph[node.name].inputs
        before = graph[source]
        if isinstance(before.op, Transpose):
            order = tuple(before.op.order[axis] for axis in order)
            (source,) = before.inputs
        if order == tuple(range(len(order))):
            graph = graph.rename(node.name, source)
        elif source != before.name:
            graph = graph.substitute(node.name, Node(node.name, Transpose(order), (source,)))
    return drop_dead(graph)


def settle_constants(graph: Graph) -> Graph:
    """Move what channels without weights say all the time into the biases behind them.

    Such a channel is its activation's value at its bias, whatever the input. The layers that read it
    get weights of zero for it, so it decides no scale and sends nothing. Where a value cannot be
    folded away, it stays.
    """
    for node in graph.nodes:
        if not isinstance(node.op, Activation) or node.name in graph.outputs:
            continue
        source = graph[node.inputs[0]]
        shift = _constants(source.op, node.op)
        if shift is None or graph.only_user(source.name) is not node:
            continue
        scale = graph.fresh(f"{node.name}.constants")
        wide = shift.reshape(-1, *[1] * (len(shapes(graph)[node.name]) - 1))
        behind = Node(scale, ScaleShift((wide == 0).double(), wide), (node.name,))
        silent = replace(source, op=_silenced(source.op, shift))
        own = {source.name: (silent,), node.name: (graph[node.name], behind)}
        trial = graph.with_nodes(
            new
            for old in graph.nodes
            for new in own.get(old.name, (_reading(old, node.name, scale),))
        )
        trial = fold_scales(trial)
        if _count_scales(trial) == _count_scales(graph):
            graph = trial
    return graph


def _reading(node: Node, old: str, new: str) -> Node:
    """The node with another name in place of one that it reads."""
    return replace(node, inputs=tuple(new if name == old else name for name in node.inputs))


def _constants(op: Op, activation: Activation) -> Tensor | None:
    """(channel,) the value of each channel that has no weights, 0 for all others; None if all are 0."""
    if not isinstance(op, Convolution | Linear) or op.bias is None or op.bias.dim() != 1:
        return None
    still = (op.weight == 0).flatten(1).all(1)
    values = torch.where(still, activation(op.bias.double()), 0.0)
    return values if bool((values != 0).any()) and not bool(still.all()) else None


def _silenced(op: Op, constants: Tensor) -> Op:
    assert isinstance(op, Convolution | Linear) and op.bias is not None
    return replace(op, bias=torch.where(constants == 0, op.bias.double(), 0.0))


def _count_scales(graph: Graph) -> int:
    return sum(isinstance(node.op, ScaleShift) for node in graph.nodes)


PASSES: tuple[Pass, ...] = (
    drop_idle,
    drop_dead,
    open_batch_norms,
    open_averages,
    fold_scales,
    open_linears,
    activate_early,
    join_transposes,
    settle_constants,
)


def canonical(graph: Graph) -> Graph:
    """The graph after all passes, in the order of `PASSES`; its outputs are the same reals.

    Each pass keeps outputs within 1e-5 of their largest absolute value (tested).
    """
    for change in PASSES:
        graph = change(graph)
    return graph
