"""Products of two computed values: gates, attention to channels, squares."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from spikemorph.graph import Op
from spikemorph.graph.calls import Call, Refusal, samples_anywhere
from spikemorph.graph.tables import (
    on_boxes,
    on_increments,
    on_integers,
    on_ranges,
    on_scales,
    reads_onnx,
    reads_torch,
)
from spikemorph.graph.traits import Shape

from .affine import ScaleShift, constant_operand, joins_edges, require_one_place
from .boxes import Box
from .moving import widened
from .pooling import accumulate
from .ranges import Range

aten: Any = torch.ops.aten
Scale = tuple[Fraction, ...]  # one for each channel (axis 1), or one for all


@dataclass(frozen=True, eq=False)
class Multiply(Op):
    """``y = a * b``, both computed, of as many axes; an axis of one is repeated.

    In time it forms the sums of what it reads and passes on by how much their product changed, which
    is ``a db + da b - da db`` with the sums a and b after the step: a product of two events is made
    of sums, shifted by the events' powers of two, and added (exactness.md, lemma 5).
    """

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        if a.dim() != b.dim():
            raise ValueError(f"it multiplies samples of {a.dim() - 1} axes and of {b.dim() - 1}")
        return a * b


@on_integers(Multiply)
def _on_integers(op: Multiply, a: Tensor, b: Tensor) -> Tensor:
    return op(a, b)


on_increments(Multiply)(accumulate)


@on_ranges(Multiply)
def _on_ranges(op: Multiply, a: Range, b: Range) -> Range:
    """The least and the greatest product of ends; zero is one of them, or lies between."""
    ends = torch.stack([p * q for p in (a.low, a.high) for q in (b.low, b.high)])
    low, high = ends.amin(0), ends.amax(0)
    return Range(low, high, max(a.load, b.load, float(torch.maximum(-low, high).max())))


@on_boxes(Multiply)
def _on_boxes(op: Multiply, a: Box, b: Box) -> Box:
    """The least and the greatest product of ends."""
    corners = [op(p, q) for p in (a.lower, a.upper) for q in (b.lower, b.upper)]
    ends = torch.stack(corners)
    return Box(ends.amin(0), ends.amax(0))


@on_scales(Multiply)
def _on_scales(op: Multiply, scales: Sequence[Scale], shapes: Sequence[Shape]) -> Scale:
    """The product of what its factors' units are worth; a factor with one channel serves all."""
    a, b = scales
    size = max(len(a), len(b))
    return tuple(p * q for p, q in zip(widened(a, size), widened(b, size), strict=True))


@reads_torch(aten.mul.Tensor, aten.mul_.Tensor, aten.mul.Scalar)
@reads_onnx("Mul")
@samples_anywhere
def _read_mul(call: Call) -> Op:
    if joins_edges(call):
        return _product(call)
    value, _ = constant_operand(call)
    return ScaleShift(value, torch.tensor(0.0))


def _product(call: Call) -> Multiply:
    require_one_place(call.edges)
    a, b = (edge.shape for edge in call.edges)
    if len(a) != len(b) or any(p != q and 1 not in (p, q) for p, q in zip(a, b, strict=True)):
        raise Refusal(f"it multiplies samples of shapes {a} and {b}", "give both as many axes")
    return Multiply()
