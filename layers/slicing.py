"""Parts of a tensor: slices, and splits into several."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Annotated, Any

import torch
from torch import Tensor

from spikemorph.graph import Op
from spikemorph.graph.calls import Call, Edge, Pieces, Placed, Refusal, samples_anywhere
from spikemorph.graph.fields import Between
from spikemorph.graph.tables import on_ranges, reads_onnx, reads_torch
from spikemorph.graph.traits import Moves

from .ranges import Range
from .shape import Identity, Reshape

aten: Any = torch.ops.aten
_TO_THE_END = 2**31 - 1  # and beyond: what exporters write for "all that is left"


@dataclass(frozen=True, eq=False)
class Narrow(Moves):
    """The part of `length` from `start` on along an axis (that counts the batch)."""

    axis: Annotated[int, Between(1)]
    start: Annotated[int, Between(0)]
    length: Annotated[int, Between(1)]

    def __call__(self, x: Tensor) -> Tensor:
        return x.narrow(self.axis, self.start, self.length)


@on_ranges(Narrow)
def _on_ranges(op: Narrow, source: Range) -> Range:
    return source.whole() if op.axis == 1 else source


def _part(edge: Edge, axis: int, start: int, end: int) -> Op:
    """The part from `start` up to `end`, which count from the back where negative."""
    axis = edge.axis(axis)
    if axis == 0:
        if start == 0 and end >= _TO_THE_END:
            return Identity()
        raise Refusal("it takes some of the samples", "keep samples on the first axis, all of them")
    size = edge.shape[axis - 1]
    start, end, _ = slice(start, end).indices(size)
    if end <= start:
        raise Refusal(f"it takes nothing: {start} to {end} of {size}", "check the model")
    return Narrow(axis, start, end - start) if end - start < size else Identity()


def _parts(edge: Edge, axis: int, lengths: Sequence[int]) -> Pieces:
    """Pieces of the given lengths, side by side."""
    axis = edge.axis(axis)
    if axis == 0:
        raise Refusal("it splits the samples", "split channels or positions")
    if sum(lengths) != edge.shape[axis - 1]:
        raise Refusal(f"it splits {edge.shape[axis - 1]} into {tuple(lengths)}", "check the model")
    starts = accumulate(lengths[:-1], initial=0)
    return Pieces(tuple(Narrow(axis, s, n) for s, n in zip(starts, lengths, strict=True)))


def _even(size: int, length: int) -> list[int]:
    """Lengths that fill `size`, the last one what is left."""
    return [min(length, size - start) for start in range(0, size, length)]


@reads_onnx("Split")
@samples_anywhere
def _read_split_onnx(call: Call) -> Pieces:
    axis, given = int(call.option("axis", 0)), call.optional(1)
    lengths = call.option("split") if given is None else given.tolist()
    if not lengths:
        size = call.edge.sized(axis)
        lengths = _even(size, -(-size // call.outputs))
    if len(lengths) != call.outputs:
        raise Refusal(f"it splits into {lengths} for {call.outputs} outputs", "check the model")
    return _parts(call.edge, axis, [int(n) for n in lengths])


@reads_onnx("Slice")
@samples_anywhere
def _read_slice_onnx(call: Call) -> tuple[Op, ...]:
    if call.version < 10:
        starts, ends, axes = (call.option(key) for key in ("starts", "ends", "axes"))
    else:
        starts, ends = (call.constant(k, f"input {k}").tolist() for k in (1, 2))
        given, steps = call.optional(3), call.optional(4)
        axes = None if given is None else given.tolist()
        if steps is not None and bool((steps != 1).any()):
            raise Refusal(f"it takes steps of {steps.tolist()}", "take every element")
    axes = range(len(starts)) if axes is None else axes
    ops = []
    edge = call.edge
    for axis, start, end in zip(axes, starts, ends, strict=True):
        ops.append(_part(edge, int(axis), int(start), int(end)))
    return tuple(ops)


@reads_torch(aten.split.Tensor, aten.split_with_sizes.default, aten.chunk.default)
@samples_anywhere
def _read_split_torch(call: Call) -> Pieces:
    axis = int(call.option("dim", 0))
    size = call.edge.sized(axis)
    if call.op == "split_with_sizes":
        return _parts(call.edge, axis, [int(n) for n in call.option("split_sizes")])
    chunked = call.op == "chunk"
    length = -(-size // int(call.option("chunks"))) if chunked else int(call.option("split_size"))
    if length < 1 or -(-size // length) != call.outputs:
        raise Refusal(f"it splits {size} into {length} each for {call.outputs} outputs", "check it")
    return _parts(call.edge, axis, _even(size, length))


@reads_torch(aten.slice.Tensor)
@samples_anywhere
def _read_slice_torch(call: Call) -> Op:
    if call.option("step", 1) != 1:
        raise Refusal(f"it takes steps of {call.option('step')}", "take every element")
    start, end = call.option("start", 0), call.option("end", _TO_THE_END)
    return _part(call.edge, int(call.option("dim", 0)), int(start), int(end))


@reads_torch(aten.narrow.default)
@samples_anywhere
def _read_narrow(call: Call) -> Op:
    start = int(call.option("start"))
    return _part(call.edge, int(call.option("dim")), start, start + int(call.option("length")))


@reads_torch(aten.select.int)
@samples_anywhere
def _read_select(call: Call) -> Placed:
    return _selected(call.edge, int(call.option("dim")), int(call.option("index")))


def _selected(edge: Edge, axis: int, index: int) -> Placed:
    """One element along an axis, which goes."""
    part = _part(edge, axis, index, _TO_THE_END if index == -1 else index + 1)
    inside, behind = edge.axis(axis) - 1, axis % edge.rank < edge.batch
    shape = edge.shape[:inside] + edge.shape[inside + 1 :]
    return Placed((part, Reshape(shape)), edge.batch - behind)


@reads_onnx("Gather")
@samples_anywhere
def _read_gather(call: Call) -> Placed:
    indices = call.constant(1, "indices")
    axis = int(call.option("axis", 0))
    if not isinstance(call.input(0), Edge) or indices.numel() != 1 or indices.dim() > 1:
        raise Refusal("it picks several elements", "take one, or a slice")
    one, place = _selected(call.edge, axis, int(indices)), call.edge.batch
    return one if indices.dim() == 0 else Placed(one.ops[:1], place)
