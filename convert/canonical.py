"""The canonical form: batch norms, normalisation and average pools folded, idle nodes gone."""

from collections.abc import Callable
from dataclasses import replace

import torch

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

from .scales import fold_once

Pass = Callable[[Graph], Graph]
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


def activate_before_pool(graph: Graph) -> Graph:
    """Put max-pools of sums behind the activation, so that they pool spikes.

    A maximum commutes with every non-decreasing function: ``f(max x) = max f(x)``.
    """
    while (changed := _activate_one(graph)) is not graph:
        graph = changed
    return graph


def _activate_one(graph: Graph) -> Graph:
    """Swap one activation with the max-pool before it; the same graph where there is none."""
    for node in graph.nodes:
        pool = graph[node.inputs[0]] if isinstance(node.op, Activation) else node
        if not isinstance(pool.op, MaxPool | GlobalMax) or graph.only_user(pool.name) is not node:
            continue
        if isinstance(graph[pool.inputs[0]].op, _SUMS):
            name = graph.fresh(f"{node.name}.early")
            early, late = Node(name, node.op, pool.inputs), Node(node.name, pool.op, (name,))
            graph = graph.substitute(node.name, early, late)
            return graph.with_nodes(n for n in graph.nodes if n.name != pool.name)
    return graph


PASSES: tuple[Pass, ...] = (
    drop_idle,
    drop_dead,
    open_batch_norms,
    open_averages,
    fold_scales,
    open_linears,
    activate_before_pool,
)


def canonical(graph: Graph) -> Graph:
    """The graph after all passes, in the order of `PASSES`; its outputs are the same reals.

    Each pass keeps outputs within 1e-5 of their largest absolute value (tested).
    """
    for change in PASSES:
        graph = change(graph)
    return graph
