"""One pass over whole numbers held in floats, differentiable in inputs, weights, biases and scales."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from spikemorph.graph import GraphError, Node
from spikemorph.graph.brief import brief_repr
from spikemorph.graph.nested import inside
from spikemorph.graph.tables import on_boxes
from spikemorph.graph.traits import Recurs, Weighted
from spikemorph.layers.activation import Activation
from spikemorph.layers.affine import ScaleShift
from spikemorph.layers.boxes import Box, monotone, rising
from spikemorph.layers.carriers import Products, float_carrier
from spikemorph.layers.joining import Add
from spikemorph.layers.ladder import along_channels, climb

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
        The op of a weighted node, by qualified name, with its weights and biases as learnt.
    products : Products
        Computes weighted layers.
    whole : dict, optional
        Weighted ops and biases as rounded in this pass: a body runs once for every element.
    """

    planned: Planned
    scales: Mapping[str, Tensor]
    current: Callable[[str], Weighted]
    products: Products
    whole: dict[str, tuple[Weighted, Tensor]] = field(default_factory=dict)

    __repr__ = brief_repr

    def __call__(self, node: Node, *inputs: Tensor) -> Tensor:
        op = node.op
        if isinstance(op, Weighted):
            return self._weighted(node, *inputs)
        if isinstance(op, Activation):
            return self._ladder(node, *inputs)
        if isinstance(op, ScaleShift):  # a plain factor: the scale alone takes it
            return inputs[0]
        if isinstance(op, Recurs):
            return self._recurs(node, *inputs)
        kind = float_carrier(self.planned.bounds[node.name], node.name)
        terms = [term.to(kind) for term in inputs]
        if node.name in self.planned.factors:
            terms = [self._scaled(node, index, term) for index, term in enumerate(terms)]
        return sum(terms[1:], start=terms[0]) if isinstance(op, Add) else op(*terms)

    def boxed(self, node: Node, *boxes: Box) -> Box:
        """As when called, on boxes of whole numbers, as `edge_boxes` asks for.

        Raises
        ------
        GraphError
            If the node is recurrent.
        """
        op = node.op
        if isinstance(op, Recurs):
            raise GraphError(f"node {node.name!r} is recurrent: train it without bounds")
        if isinstance(op, ScaleShift):
            return boxes[0]
        kind = float_carrier(self.planned.bounds[node.name], node.name)
        if isinstance(op, Activation):
            return rising(partial(self._ladder, node), boxes[0])
        terms = [box.to(kind) for box in boxes]
        if isinstance(op, Weighted):
            op, bias = self._whole(node)
            made: Box = on_boxes[type(op)](op.having(bias=bias), *terms)
            return made
        if node.name in self.planned.factors:
            terms = [monotone(partial(self._scaled, node, i), box) for i, box in enumerate(terms)]
        if isinstance(op, Add):
            return rising(lambda *ends: sum(ends[1:], start=ends[0]), *terms)
        found: Box = on_boxes[type(op)](op, *terms)
        return found

    def _recurs(self, node: Node, *inputs: Tensor) -> Tensor:
        """Element by element, on whole numbers of the units that the body's inputs have."""
        own = self.planned.inner[node.name]
        terms = []
        for index, term in enumerate(inputs):
            entry = own.plan.graph.inputs[index]
            kind = float_carrier(own.bounds[entry], f"{node.name}/{entry}")
            terms.append(self._scaled(node, index, term.to(kind)))

        def current(name: str) -> Weighted:
            return self.current(f"{node.name}/{name}")

        compute = LearningPass(own, inside(self.scales, node.name), current, self.products)
        return self.planned.started[node.name].computed(compute, *terms)

    def _weighted(self, node: Node, source: Tensor) -> Tensor:
        """``W C + b``, ``W = floor(weight scale_in / scale_out + 1/2)``, clipped, ``b`` likewise."""
        op, bias = self._whole(node)
        peak = self.planned.bounds[node.inputs[0]]
        load = product_bound(op, self.planned.plan.largest_of(node), peak)
        kind = float_carrier(self.planned.bounds[node.name], node.name)
        return self.products(op, source, (peak, load)).to(kind) + op.spread(bias).to(kind)

    def _whole(self, node: Node) -> tuple[Weighted, Tensor]:
        """The op with its weights, and the bias, in whole numbers: rounded once in a pass."""
        if node.name not in self.whole:
            self.whole[node.name] = self._rounded(node)
        return self.whole[node.name]

    def _rounded(self, node: Node) -> tuple[Weighted, Tensor]:
        op, (name,) = self.current(node.name), node.inputs
        unit, largest = self.scales[node.name], self.planned.plan.largest_of(node)
        ratio = in_units(op, self.scales[name]) / unit.reshape(-1, *[1] * (op.weight.dim() - 1))
        whole = torch.floor(ratio.detach() + 0.5).clamp(-largest, largest)
        weight = through(whole, ratio.clamp(-largest, largest)).to(torch.float32)
        assert op.bias is not None
        bias = op.bias.double() / unit.reshape(-1, *[1] * (op.bias.dim() - 1))
        bias = through(torch.floor(bias.detach() + 0.5), bias)
        return op.having(weight=weight, bias=None), bias

    def _ladder(self, node: Node, sums: Tensor) -> Tensor:
        """``clip(floor(scale C / unit + 1/2))``, exactly; the gradient is that of the same unrounded."""
        (name,) = node.inputs
        steps = self.planned.plan.steps[node.name]
        kind = float_carrier(self.planned.bounds[node.name], node.name)
        own = along_channels(self.scales[node.name], sums)
        coming = along_channels(self.scales[name], sums)
        if (ladder := self.planned.ladders.get(node.name)) is not None:
            level = climb(ladder, sums.detach().to(torch.int64))
            soft = node.op((sums * coming).to(torch.float32)) / own.to(torch.float32)
            return through(level.to(kind), soft.clamp(steps.smin, steps.smax))
        with torch.no_grad():
            level = torch.floor(position(self.planned.lines[node.name], sums))
            level = level.clamp(steps.smin, steps.smax)
        slope = (coming / own).to(torch.float32)
        soft = (sums.to(torch.float32) * slope).clamp(steps.smin, steps.smax)
        return through(level.to(kind), soft)

    def _scaled(self, node: Node, index: int, term: Tensor) -> Tensor:
        """A term in units of the node, by its whole factor, whose gradient is that of the scales."""
        exact = self.planned.factors[node.name][index].to(term)
        unit = self.planned.scales[node.name]
        if isinstance(node.op, Recurs):
            unit = self.planned.inner[node.name].scales[node.op.body.inputs[index]]
        ratio = self.scales[node.inputs[index]] / unit
        soft = along_channels(ratio, term).to(term.dtype)
        if isinstance(node.op, Add):
            soft = soft * node.op.factors[index].to(term)
        return term * through(exact.expand_as(soft), soft)
