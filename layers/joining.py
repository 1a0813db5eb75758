"""Where paths meet: weighted sums and concatenation."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import torch
from torch import Tensor

from spikemorph.graph import Op
from spikemorph.graph.calls import Call, Edge, Refusal, samples_anywhere
from spikemorph.graph.fields import NUMBERS, Between
from spikemorph.graph.stages import PREPARED, Seat
from spikemorph.graph.tables import (
    hands_scale_on,
    on_boxes,
    on_increments,
    on_integers,
    on_ranges,
    reads_onnx,
    reads_torch,
)
from spikemorph.graph.traits import Moves, Shape

from .affine import ScaleShift, constant_operand, joins_edges, per_channel, require_one_place
from .boxes import Box, monotone, rising
from .ranges import Range, total

aten: Any = torch.ops.aten


@dataclass(frozen=True, eq=False)
class Add(Op):
    """``y = sum of factor_i * x_i``.

    A factor is (), or (channel, 1, ...); integers on integer graphs.
    """

    factors: tuple[Annotated[Tensor, NUMBERS], ...]

    def __call__(self, *inputs: Tensor) -> Tensor:
        pairs = zip(inputs, self.factors, strict=True)
        terms = [_scaled(factor, x) for x, factor in pairs]
        return sum(terms[1:], start=terms[0])


def _scaled(factor: Tensor, x: Tensor) -> Tensor:
    return x * factor.to(x) if bool((factor != 1).any()) else x


@dataclass(frozen=True, eq=False)
class Concat(Moves):
    """Samples' tensors side by side along an axis (1 is the channel axis, 0 would be the batch)."""

    axis: Annotated[int, Between(1)]

    def __call__(self, *inputs: Tensor) -> Tensor:
        return torch.cat(inputs, self.axis)


@on_integers(Add)
@on_increments(Add)
def _join(op: Op, *inputs: Tensor) -> Tensor:
    return op(*inputs)


@on_ranges(Add)
def _add_ranges(op: Add, *sources: Range) -> Range:
    return total([s.scaled(f) for s, f in zip(sources, op.factors, strict=True)])


@on_boxes(Add)
def _add_boxes(op: Add, *boxes: Box) -> Box:
    pairs = zip(boxes, op.factors, strict=True)
    terms = [monotone(partial(_scaled, factor), box) for box, factor in pairs]
    return rising(lambda *ends: sum(ends[1:], start=ends[0]), *terms)


@PREPARED(Add)
def _whole_factors(op: Add, seat: Seat) -> None:
    if any(bool((factor != factor.round()).any()) for factor in op.factors):
        raise Refusal("its factors are not whole", "put scales ahead of it (spikemorph.quant)")


@hands_scale_on(Concat)
def _past_concat(
    op: Concat, scale: ScaleShift, shapes: Sequence[Shape], index: int
) -> ScaleShift | None:
    """Along channels, the others have a gain of one and no shift."""
    gain, shift = per_channel(scale.gain), per_channel(scale.shift)
    if op.axis != 1 or gain is None or shift is None:
        return None
    gains = [torch.ones(s[0], dtype=torch.float64) for s in shapes]
    shifts = [torch.zeros(s[0], dtype=torch.float64) for s in shapes]
    gains[index] = gain.double().expand(shapes[index][0])
    shifts[index] = shift.double().expand(shapes[index][0])
    wide = (-1, *[1] * (len(shapes[index]) - 1))
    return ScaleShift(torch.cat(gains).reshape(wide), torch.cat(shifts).reshape(wide))


def _scaled_join(call: Call, factors: tuple[float, ...]) -> Add:
    """A sum of computed values of one shape, each with its factor."""
    require_one_place(call.edges)
    first = call.edges[0].shape
    for edge in call.edges[1:]:
        if edge.shape != first:
            raise Refusal(f"it joins shapes {first} and {edge.shape}", "expand the smaller one")
    return Add(tuple(torch.tensor(float(f)) for f in factors))


def _concat(call: Call, axis: int) -> Concat:
    require_one_place(call.edges)
    axis = call.edges[0].axis(axis)
    if axis == 0:
        raise Refusal("it concatenates samples", "concatenate along channels or positions")
    if len(call.edges) != _members(call):
        raise Refusal("it concatenates a constant with an activation", "pad instead")
    return Concat(axis)


def _members(call: Call) -> int:
    flat = call.inputs[0] if isinstance(call.input(0), list | tuple) else call.inputs
    return len(flat)


@reads_torch(aten.cat.default, aten.concat.default)
@samples_anywhere
def _read_cat(call: Call) -> Concat:
    return _concat(call, int(call.option("dim", 0)))


@reads_onnx("Concat")
@samples_anywhere
def _read_concat(call: Call) -> Concat:
    return _concat(call, int(call.option("axis", 1)))


@reads_onnx("Sum")
@samples_anywhere
def _read_sum(call: Call) -> Add:
    if not all(isinstance(item, Edge) for item in call.inputs):
        raise Refusal("it sums an activation and a constant", "use Add")
    return _scaled_join(call, (1.0,) * len(call.inputs))


@reads_torch(aten.add.Tensor, aten.add_.Tensor, aten.add.Scalar)
@reads_onnx("Add")
@samples_anywhere
def _read_add(call: Call) -> Op:
    alpha = call.option("alpha", 1)
    if joins_edges(call):
        return _scaled_join(call, (1, alpha))
    value, left = constant_operand(call)
    gain = torch.tensor(float(alpha) if left else 1.0)
    return ScaleShift(gain, value if left else value * alpha)


@reads_torch(aten.sub.Tensor, aten.sub_.Tensor, aten.sub.Scalar)
@reads_onnx("Sub")
@samples_anywhere
def _read_sub(call: Call) -> Op:
    alpha = call.option("alpha", 1)
    if joins_edges(call):
        return _scaled_join(call, (1, -alpha))
    value, left = constant_operand(call)
    if left:
        return ScaleShift(torch.tensor(-float(alpha)), value)
    return ScaleShift(torch.tensor(1.0), -value * alpha)
