"""One pass over whole numbers held in floats, differentiable in inputs, weights, biases and scales."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from spikemorph.graph import Node
from spikemorph.graph.brief import brief_repr
from spikemorph.graph.traits import Weighted
from spikemorph.layers.activation import Activation
from spikemorph.layers.affine import ScaleShift
from spikemorph.layers.carriers import Products, float_carrier
from spikemorph.layers.joining import Add
from spikemorph.layers.ladder import along_channels

from .exact_floats import position, through
from .learning_scales import Planned, product_bound
from .scale_plan import in_units


@dataclass(frozen=True, eq=False)
class LearningPass:
    """How the nodes of a prepared float graph compute on whole numbers, for `walk`.

    Every edge carries whole numbers C in a float type that holds them; ``scale C`` is the real value.

    Parameters
    ----------
    planned : Planned
        The scales as they are.
    scales : mapping
        The same with their gradients (`soft_scales`).
    current : callable
        The op of a weighted node, with its weights and biases as learnt.
    products : Products
        Computes weighted layers.
    """

    planned: Planned
    scales: Mapping[str, Tensor]
    current: Callable[[Node], Weighted]
    products: Products

    __repr__ = brief_repr

    def __call__(self, node: Node, *inputs: Tensor) -> Tensor:
        op = node.op
        if isinstance(op, Weighted):
            return self._weighted(node, *inputs)
        if isinstance(op, Activation):
            return self._ladder(node, *inputs)
        if isinstance(op, ScaleShift):  # a plain factor: the scale alone takes it
            return inputs[0]
        kind = float_carrier(self.planned.bounds[node.name], node.name)
        terms = [term.to(kind) for term in inputs]
        if node.name in self.planned.factors:
            terms = [self._scaled(node, index, term) for index, term in enumerate(terms)]
        return sum(terms[1:], start=terms[0]) if isinstance(op, Add) else op(*terms)

    def _weighted(self, node: Node, source: Tensor) -> Tensor:
        """``W C + b``, ``W = floor(weight scale_in / scale_out + 1/2)``, clipped, ``b`` likewise."""
        op, (name,) = self.current(node), node.inputs
        unit, largest = self.scales[node.name], self.planned.plan.largest
        ratio = in_units(op, self.scales[name]) / unit.reshape(-1, *[1] * (op.weight.dim() - 1))
        whole = torch.floor(ratio.detach() + 0.5).clamp(-largest, largest)
        weight = through(whole, ratio.clamp(-largest, largest)).to(torch.float32)
        peak = self.planned.bounds[name]
        load = product_bound(op, largest, peak)
        sums = self.products(op.having(weight=weight, bias=None), source, (peak, load))
        assert op.bias is not None
        bias = op.bias.double() / unit.reshape(-1, *[1] * (op.bias.dim() - 1))
        bias = through(torch.floor(bias.detach() + 0.5), bias)
        kind = float_carrier(self.planned.bounds[node.name], node.name)
        return sums.to(kind) + op.spread(bias).to(kind)

    def _ladder(self, node: Node, sums: Tensor) -> Tensor:
        """``clip(floor(scale C / unit + 1/2))``, exactly; the gradient is that of the same unrounded."""
        (name,) = node.inputs
        steps = self.planned.plan.steps[node.name]
        with torch.no_grad():
            level = torch.floor(position(self.planned.lines[node.name], sums))
            level = level.clamp(steps.smin, steps.smax)
        slope = (self.scales[name] / self.scales[node.name]).to(torch.float32)
        soft = (sums.to(torch.float32) * along_channels(slope, sums)).clamp(steps.smin, steps.smax)
        return through(level.to(float_carrier(self.planned.bounds[node.name], node.name)), soft)

    def _scaled(self, node: Node, index: int, term: Tensor) -> Tensor:
        """A term in units of the node, by its whole factor, whose gradient is that of the scales."""
        exact = self.planned.factors[node.name][index].to(term)
        ratio = self.scales[node.inputs[index]] / self.planned.scales[node.name]
        soft = along_channels(ratio, term).to(term.dtype)
        if isinstance(node.op, Add):
            soft = soft * node.op.factors[index].to(term)
        return term * through(exact.expand_as(soft), soft)
