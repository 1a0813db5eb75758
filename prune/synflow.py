"""SynFlow: keep the weights that carry most flow from inputs to outputs, without any data."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from spikemorph.graph import Graph, InputError, Node
from spikemorph.graph.graph import Register
from spikemorph.graph.interpret import walk
from spikemorph.graph.nested import nested_compute, nested_map
from spikemorph.graph.traits import Moves, Pools, Weighted
from spikemorph.layers.joining import Add
from spikemorph.layers.masks import weighted_ops
from spikemorph.layers.multiply import Multiply

from .allocation import Ranked
from .masked import one_shot
from .methods import methods
from .task import PruneTask


@dataclass(frozen=True)
class SynFlow:
    """Iterative synaptic flow pruning (Tanaka et al., NeurIPS 2020), then training under the mask.

    After round k of n the share ``(1 - s)^(k / n)`` of all weights is left; what went stays out.
    Ranked over all layers unless the task says otherwise.

    Parameters
    ----------
    rounds : int
        n.
    """

    name: ClassVar[str] = "synflow"
    rounds: int = 100

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise InputError(f"synflow in {self.rounds} rounds: give 1 or more")

    def __call__(self, task: PruneTask) -> Graph:
        allocation, sizes = task.allocation or Ranked(), task.magnitudes()
        masks = {name: torch.ones_like(size, dtype=torch.bool) for name, size in sizes.items()}
        for round_ in range(1, self.rounds + 1):
            left = (1 - task.sparsity) ** (round_ / self.rounds)
            scores = synaptic_flow(task.graph, {n: sizes[n] * masks[n] for n in sizes})
            scores = {n: torch.where(masks[n], scores[n], -1.0) for n in scores}
            sparsity = task.sparsity if round_ == self.rounds else 1 - left
            masks = allocation.masks(scores, sparsity)
        return one_shot(self, task, task.checked(masks))


def synaptic_flow(graph: Graph, sizes: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``|w| dR/d|w|``, R being the sum of outputs for an input of ones; float64.

    The network is made linear: weights are their sizes, biases are left out, and what neither moves,
    pools nor joins numbers, but bends or scales them, passes on what it gets; factors are summed, and
    registers start at zero. A weight's score is then the sum over all paths through it, along the
    elements of sequences too, of the product of the sizes along the path.

    Parameters
    ----------
    graph : Graph
        A float graph.
    sizes : mapping of str to Tensor
        By node, the absolute weights, zero where pruned; a weight that nodes share is given once.

    Raises
    ------
    InputError
        If the flow grows beyond all numbers, as it may along many elements.
    """
    learnt = {name: size.clone().requires_grad_() for name, size in sizes.items()}
    ops = weighted_ops(graph)
    shared = {id(ops[name].weight): size for name, size in learnt.items()}

    def flow(name: str, node: Node, *inputs: Tensor) -> Tensor:
        op = node.op
        if isinstance(op, Weighted):
            return op.having(weight=shared[id(op.weight)], bias=None)(*inputs)
        if isinstance(op, Add):
            return replace(op, factors=tuple(factor.abs() for factor in op.factors))(*inputs)
        if isinstance(op, Multiply):
            return inputs[0] + inputs[1]
        return op(*inputs) if isinstance(op, Moves | Pools) else inputs[0]

    device = next(iter(sizes.values())).device
    ones = torch.ones((1, *graph.entry.shape), dtype=torch.float64, device=device)
    still = nested_map(graph, lambda name, node: node, lasting=_from_zero)
    nodes = walk(still, ones, nested_compute(flow))
    outputs = {node.name: output for node, output in nodes}
    total = torch.stack([outputs[name].sum() for name in graph.outputs]).sum()
    found = torch.autograd.grad(total, list(learnt.values()), allow_unused=True)
    flows = {}
    for (name, size), gradient in zip(learnt.items(), found, strict=True):
        flows[name] = size.detach() * (0.0 if gradient is None else gradient)
        if not bool(torch.isfinite(flows[name]).all()):
            raise InputError(
                f"node {name!r}: the flow through its weights is too large for 64-bit floats; prune by "
                "magnitude or snip"
            )
    return flows


def _from_zero(name: str, register: Register) -> Register:
    return replace(register, start=torch.zeros_like(register.start))


methods(SynFlow.name)(SynFlow())
