"""The canonical form: batch norms, normalisation and average pools folded, idle nodes gone."""

from collections.abc import Callable
from dataclasses import replace

import torch

from spikemorph.graph import Graph, Node
from spikemorph.graph.interpret import shapes
from spikemorph.layers.activation import Activation
from spikemorph.layers.affine import ScaleShift
from spikemorph.layers.convolution import Convolution
from spikemorph.layers.linear import Linear
from spikemorph.layers.normalisation import BatchNorm
from spikemorph.layers.pooling import AveragePool, GlobalAverage, MaxPool, SumPool
from spikemorph.layers.shape import Identity
from spikemorph.layers.windows import pairs

from .scales import fold_once

Pass = Callable[[Graph], Graph]


def drop_idle(graph: Graph) -> Graph:
    """Drop nodes that do nothing (dropout, casts)."""
    for node in graph.nodes:
        if isinstance(node.op, Identity):
            graph = graph.rename(node.name, node.inputs[0])
    return graph


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
            counts = (
                counts.reshape(-1)[0] if bool((counts == counts.reshape(-1)[0]).all()) else counts
            )
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
    while True:
        changed = fold_once(graph, shapes(graph))
        if changed is graph:
            return graph
        graph = changed


def activate_before_pool(graph: Graph) -> Graph:
    """Put max-pools of sums behind the activation, so that they pool spikes.

    A maximum commutes with every non-decreasing function: ``f(max x) = max f(x)``.
    """
    for node in graph.nodes:
        source = graph[node.inputs[0]] if node.inputs else node
        if not (isinstance(node.op, Activation) and isinstance(source.op, MaxPool)):
            continue
        weighted = graph[source.inputs[0]]
        if isinstance(weighted.op, Convolution | Linear) and graph.only_user(source.name) is node:
            name = graph.fresh(f"{node.name}.early")
            early, late = Node(name, node.op, source.inputs), Node(node.name, source.op, (name,))
            graph = graph.substitute(node.name, early, late)
            graph = graph.with_nodes(n for n in graph.nodes if n.name != source.name)
    return graph


PASSES: tuple[Pass, ...] = (
    drop_idle,
    drop_dead,
    open_batch_norms,
    open_averages,
    fold_scales,
    activate_before_pool,
)


def canonical(graph: Graph) -> Graph:
    """The graph after all passes, in the order of `PASSES`; its outputs are the same reals.

    Each pass keeps outputs within 1e-5 of their largest absolute value (tested).
    """
    for change in PASSES:
        graph = change(graph)
    return graph
