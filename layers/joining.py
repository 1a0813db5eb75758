"""Where paths meet: weighted sums and concatenation."""

from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor

from spikemorph.graph import Op
from spikemorph.graph.calls import Call, Edge, Refusal
from spikemorph.graph.fields import NUMBERS, Between
from spikemorph.graph.tables import on_increments, on_integers, on_ranges, reads_onnx, reads_torch

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
        terms = [x * f.to(x) if bool((f != 1).any()) else x for x, f in pairs]
        return sum(terms[1:], start=terms[0])


@dataclass(frozen=True, eq=False)
class Concat(Op):
    """Samples' tensors side by side along an axis (1 is the channel axis, 0 would be the batch)."""

    axis: Annotated[int, Between(1)]

    def __call__(self, *inputs: Tensor) -> Tensor:
        return torch.cat(inputs, self.axis)


@on_integers(Add, Concat)
@on_increments(Add, Concat)
def _join(op: Op, *inputs: Tensor) -> Tensor:
    return op(*inputs)


@on_ranges(Add)
def _add_ranges(op: Add, *sources: Range) -> Range:
    return total([s.scaled(f) for s, f in zip(sources, op.factors, strict=True)])


@on_ranges(Concat)
def _concat_ranges(op: Concat, *sources: Range) -> Range:
    wholes = [s.whole() for s in sources]
    low = torch.stack([w.low for w in wholes]).min(0).values
    high = torch.stack([w.high for w in wholes]).max(0).values
    return Range(low, high, max(w.load for w in wholes))


def scaled_join(call: Call, factors: tuple[float, ...]) -> Add:
    """A sum of computed values of one shape, each with its factor."""
    first = call.edges[0].shape
    for edge in call.edges[1:]:
        if edge.shape != first:
            raise Refusal(f"it joins shapes {first} and {edge.shape}", "expand the smaller one")
    return Add(tuple(torch.tensor(float(f)) for f in factors))


def _concat(call: Call, axis: int) -> Concat:
    rank = len(call.edges[0].shape) + 1
    axis = axis + rank if axis < 0 else axis
    if axis == 0:
        raise Refusal("it concatenates samples", "concatenate along channels or positions")
    if len(call.edges) != _members(call):
        raise Refusal("it concatenates a constant with an activation", "pad instead")
    return Concat(axis)


def _members(call: Call) -> int:
    flat = call.inputs[0] if isinstance(call.input(0), list | tuple) else call.inputs
    return len(flat)


@reads_torch(aten.cat.default, aten.concat.default)
def _read_cat(call: Call) -> Concat:
    return _concat(call, int(call.option("dim", 0)))


@reads_onnx("Concat")
def _read_concat(call: Call) -> Concat:
    return _concat(call, int(call.option("axis", 1)))


@reads_onnx("Sum")
def _read_sum(call: Call) -> Add:
    if not all(isinstance(item, Edge) for item in call.inputs):
        raise Refusal("it sums an activation and a constant", "use Add")
    return scaled_join(call, (1.0,) * len(call.inputs))
