"""First weights for a graph, to prune at initialisation or to train sparse from scratch."""

from dataclasses import replace
from typing import Literal

import torch
from torch import Generator, Tensor, nn

from spikemorph.graph import Graph, Node
from spikemorph.graph.nested import nested_map
from spikemorph.graph.traits import Weighted
from spikemorph.layers.normalisation import BatchNorm


def fresh(graph: Graph, generator: Generator) -> Graph:
    """The same architecture before training, drawn from `generator` alone; masks are dropped.

    Weights are Kaiming normal, the standard deviation being sqrt(2 / fan_out) for a convolution and
    sqrt(2 / fan_in) for a linear layer; biases are zero; batch norms are the identity. What nodes
    share they share again.
    """
    drawn: dict[int, Tensor] = {}

    def first(name: str, node: Node) -> Node:
        op = node.op
        if isinstance(op, Weighted):
            weight = drawn.get(id(op.weight))
            if weight is None:
                weight = drawn[id(op.weight)] = _kaiming(op, generator)
            bias = None if op.bias is None else torch.zeros_like(op.bias)
            return replace(node, op=op.having(weight=weight, bias=bias, mask=None))
        if isinstance(op, BatchNorm):
            mean, shift = (torch.zeros_like(t) for t in (op.mean, op.shift))
            variance, gain = (torch.ones_like(t) for t in (op.variance, op.gain))
            idle = replace(op, mean=mean, variance=variance, gain=gain, shift=shift)
            return replace(node, op=idle)
        return node

    return nested_map(graph, first)


def _kaiming(op: Weighted, generator: Generator) -> Tensor:
    fan: Literal["fan_in", "fan_out"] = "fan_out" if op.local else "fan_in"
    weight = torch.empty_like(op.weight, device="cpu", memory_format=torch.contiguous_format)
    nn.init.kaiming_normal_(weight, mode=fan, nonlinearity="relu", generator=generator)
    return weight.to(op.weight.device)
