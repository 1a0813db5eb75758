"""Constant scale and shift: input normalisation, and what batch normalisation becomes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor

from spikemorph.graph import Op
from spikemorph.graph.calls import Call, Edge, Refusal, samples_anywhere
from spikemorph.graph.fields import NUMBERS
from spikemorph.graph.stages import PREPARED, Seat
from spikemorph.graph.tables import (
    on_boxes,
    on_increments,
    on_integers,
    on_ranges,
    reads_onnx,
    reads_torch,
)

from .boxes import Box, monotone
from .ranges import Range

aten: Any = torch.ops.aten


@dataclass(frozen=True, eq=False)
class ScaleShift(Op):
    """``y = gain * x + shift``; both are () or have as many axes as one sample, to broadcast."""

    gain: Annotated[Tensor, NUMBERS]
    shift: Annotated[Tensor, NUMBERS]

    @property
    def idle(self) -> bool:
        return bool((self.gain == 1).all()) and bool((self.shift == 0).all())

    @property
    def adds(self) -> bool:
        return bool((self.shift != 0).any())

    def __call__(self, x: Tensor) -> Tensor:
        return x * self.gain.to(x) + self.shift.to(x)


@on_integers(ScaleShift)
def _on_integers(op: ScaleShift, x: Tensor) -> Tensor:
    return op(x)


@on_increments(ScaleShift)
def _on_increments(op: ScaleShift, x: Tensor) -> Tensor:
    return x * op.gain.to(x)


@on_ranges(ScaleShift)
def _on_ranges(op: ScaleShift, source: Range) -> Range:
    gain = per_channel(op.gain)
    reach = source.whole() if gain is None else source
    ends = [reach.scaled(g) for g in (op.gain.min(), op.gain.max())] if gain is None else []
    out = reach.scaled(gain) if gain is not None else Range(
        torch.minimum(ends[0].low, ends[1].low), torch.maximum(ends[0].high, ends[1].high),
        max(e.load for e in ends),
    )  # fmt: skip
    low, high = float(op.shift.min().clamp(max=0)), float(op.shift.max().clamp(min=0))
    return Range(out.low + low, out.high + high, out.load + max(-low, high))


@on_boxes(ScaleShift)
def _on_boxes(op: ScaleShift, box: Box) -> Box:
    return monotone(op, box)


@PREPARED(ScaleShift)
def _rounded(op: ScaleShift, seat: Seat) -> None:
    """Its factors and its scale are chosen together (`spikemorph.quant`)."""


def per_channel(constant: Tensor) -> Tensor | None:
    """A constant that depends on the channel at most, as (channel,) or (1,); None if on more."""
    if constant.dim() == 0:
        return constant[None]
    return constant.reshape(len(constant)) if constant.numel() == len(constant) else None


def rises(scale: ScaleShift) -> bool:
    """Whether it is one line per channel that never falls, which commutes with a maximum."""
    gain, shift = per_channel(scale.gain), per_channel(scale.shift)
    return gain is not None and shift is not None and bool((gain >= 0).all())


def shrunk(values: Tensor) -> Tensor:
    """A sample's constants as one number per channel where that is all they are, else as they are."""
    flat = values.reshape(len(values), -1)
    if bool((flat == flat[:, :1]).all()):
        return flat[:, 0].reshape(-1, *[1] * (values.dim() - 1)).clone()
    return values


def _broadcast(constant: Tensor, edge: Edge) -> Tensor:
    """Bring a source's constant to one sample's axes, dropping a batch axis of size one."""
    found, shape = tuple(constant.shape), edge.shape
    if constant.dim() > edge.rank:
        raise Refusal(f"its constant of shape {found} adds axes to a sample of {shape}")
    if constant.numel() == 1:
        return constant.reshape(())
    wide = constant.reshape(*[1] * (edge.rank - constant.dim()), *found)
    if wide.shape[edge.batch] != 1:
        raise Refusal(f"its constant of shape {found} differs between samples")
    constant = wide.squeeze(edge.batch)
    if any(c not in (1, size) for c, size in zip(constant.shape, shape, strict=True)):
        raise Refusal(f"its constant of shape {found} enlarges a sample of {shape}")
    return constant


def constant_operand(call: Call) -> tuple[Tensor, bool]:
    """The constant factor or summand of a binary operator, and whether it stands left."""
    left = isinstance(call.input(1), Edge)
    return _broadcast(call.constant(0 if left else 1, "constant"), call.edge), left


def require_one_place(edges: Sequence[Edge]) -> None:
    """Refuse to pair values whose samples lie on different axes."""
    if len({edge.batch for edge in edges}) > 1:
        axes = [edge.batch for edge in edges]
        raise Refusal(f"samples lie on axes {axes} of its inputs", "transpose them alike")


def joins_edges(call: Call) -> bool:
    """Whether both operands of a binary operator are computed."""
    return isinstance(call.input(0), Edge) and isinstance(call.input(1), Edge)


@reads_torch(aten.rsub.Scalar)
@samples_anywhere
def _read_rsub(call: Call) -> Op:
    value, _ = constant_operand(call)
    return ScaleShift(torch.tensor(-float(call.option("alpha", 1))), value)


@reads_torch(aten.div.Tensor, aten.div_.Tensor, aten.div.Scalar)
@reads_onnx("Div")
@samples_anywhere
def _read_div(call: Call) -> Op:
    if joins_edges(call):
        raise Refusal("it divides an activation by another", "multiply, or divide by a constant")
    value, left = constant_operand(call)
    if left:
        raise Refusal("it divides a constant by an activation")
    return ScaleShift(1 / value.double(), torch.tensor(0.0))


@reads_onnx("Neg")
@reads_torch(aten.neg.default)
@samples_anywhere
def _read_neg(call: Call) -> Op:
    return ScaleShift(torch.tensor(-1.0), torch.tensor(0.0))
