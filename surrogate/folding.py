"""Fold batch norms and trained thresholds into weights, so that every neuron has threshold 1.

A neuron compares ``v >= V``, and its membrane is linear in its currents between resets, so dividing
its currents by V and comparing with 1 gives the same spikes; with soft reset, 1 is then taken off. A
batch norm behind a weighted layer is ``g W x + (g (b - mean) + shift)``, with ``g = gain / sqrt(variance
+ eps)``. All of it is computed in 64-bit floats, and only scales weights: zeros and masks stay.

What is the same: in 64-bit floats the spike trains, unless a membrane meets its threshold to about
1e-15 of it (tested: none does); rounded to 32 bits, nearly all spikes, and the logits but for those.
"""

from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from spikemorph.graph import Graph, Node, Op
from spikemorph.graph.interpret import shapes
from spikemorph.graph.tables import opens
from spikemorph.graph.traits import Moves, Pools, Weighted
from spikemorph.layers.affine import ScaleShift
from spikemorph.layers.joining import Add
from spikemorph.layers.normalisation import BatchNorm

from .folded_network import DeployedNetwork, Fire
from .module import SpikingModule


def fold(module: SpikingModule, kind: torch.dtype = torch.float32) -> DeployedNetwork:
    """The network that a trained module is in evaluation mode, with nothing but weights.

    Parameters
    ----------
    module : SpikingModule
        Left as it is.
    kind : dtype
        Of the folded weights; they are rounded to it once, at the end.

    Returns
    -------
    DeployedNetwork
        On the CPU; masks are those of the module's graph, bit for bit.
    """
    graph = module.to_graph().map(lambda node: _cast(node, torch.float64))
    graph = _fold_batch_norms(graph)
    dynamics = module.dynamics
    for name in module.spiking:
        graph = _divided(graph, name, float(module.threshold(name).detach()))
        fire = Fire(dynamics.leak, dynamics.hard_reset)
        graph = graph.substitute(name, replace(graph[name], op=fire))
    return DeployedNetwork(graph.map(lambda node: _cast(node, kind)), dynamics.steps)


def _fold_batch_norms(graph: Graph) -> Graph:
    """Each batch norm inside the weighted layer before it; where there is none, a scale and shift."""
    sizes = shapes(graph)
    for name in [node.name for node in graph.nodes if isinstance(node.op, BatchNorm)]:
        node, source = graph[name], graph[graph[name].inputs[0]]
        ((_, scale),) = opens[BatchNorm](node.op, sizes[source.name])
        if _ends_in_channels(source.op, sizes[name]) and graph.only_user(source.name) is node:
            assert isinstance(source.op, Weighted)
            op = _scaled(source.op, scale.gain.flatten(), scale.shift.flatten())
            graph = graph.substitute(source.name, replace(source, op=op))
            graph = graph.rename(name, source.name)
        else:
            graph = graph.substitute(name, replace(node, op=scale))
    return graph


def _ends_in_channels(op: Op, shape: tuple[int, ...]) -> bool:
    """Whether a weighted op's rows are the channels of its output, of `shape` for one sample."""
    return isinstance(op, Weighted) and op.reads % len(shape) == 0


def _scaled(op: Weighted, gain: Tensor, shift: Tensor | None = None) -> Weighted:
    """The layer with ``gain y + shift`` behind it, both (out,) or ()."""
    rows = gain.expand(len(op.weight))
    weight = op.weight * rows.reshape(-1, *[1] * (op.weight.dim() - 1)) + 0.0  # no negative zero
    bias = op.bias
    if bias is not None:
        bias = bias * rows.reshape(-1, *[1] * (bias.dim() - 1))
    if shift is not None:
        axes = 0 if bias is None else bias.dim() - 1
        bias = shift.reshape(-1, *[1] * axes) + (0.0 if bias is None else bias)
    return op.having(weight=weight, bias=bias)


def _divided(graph: Graph, reader: str, threshold: float) -> Graph:
    """The graph in which what `reader` reads is divided by its threshold."""
    absorbed = _absorbed(graph, reader, 0, 1 / threshold)
    if absorbed is not None:
        return absorbed
    node, name = graph[reader], graph.fresh(f"{reader}.scale")
    scale = ScaleShift(torch.tensor(1 / threshold).double(), torch.tensor(0.0).double())
    return graph.substitute(reader, Node(name, scale, node.inputs), replace(node, inputs=(name,)))


def _absorbed(graph: Graph, reader: str, position: int, factor: float) -> Graph | None:
    """The graph with one input of `reader` multiplied, by weights alone; None where it cannot be."""
    source = graph[graph[reader].inputs[position]]
    if graph.only_user(source.name) is not graph[reader]:
        return None
    op = source.op
    if isinstance(op, Moves | Pools) and len(source.inputs) == 1:  # f(c x) = c f(x) for c > 0
        return _absorbed(graph, source.name, 0, factor)
    if isinstance(op, Add):
        factors = list(op.factors)
        for index in range(len(factors)):
            changed = _absorbed(graph, source.name, index, factor)
            graph = graph if changed is None else changed
            factors[index] = factors[index] * factor if changed is None else factors[index]
        op = replace(op, factors=tuple(factors))
    elif isinstance(op, ScaleShift):
        op = ScaleShift(op.gain * factor, op.shift * factor)
    elif isinstance(op, Weighted):
        op = _scaled(op, torch.tensor(factor, dtype=torch.float64))
    else:
        return None
    return graph.substitute(source.name, replace(graph[source.name], op=op))


def _cast(node: Node, kind: torch.dtype) -> Node:
    """The node with its real numbers in another type, on the CPU."""
    values = {field.name: getattr(node.op, field.name) for field in fields(node.op)}
    return replace(node, op=replace(node.op, **{k: _as(v, kind) for k, v in values.items()}))


def _as(value: Any, kind: torch.dtype) -> Any:
    if isinstance(value, Tensor):
        return value.detach().to("cpu", kind if value.is_floating_point() else None)
    return tuple(_as(item, kind) for item in value) if isinstance(value, tuple) else value
