"""Ops that only move numbers: flatten, reshape, transpose, pad, and those that do nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor

from spikemorph.graph import Op
from spikemorph.graph.calls import Call, Edge, Placed, Refusal, samples_anywhere
from spikemorph.graph.fields import Between
from spikemorph.graph.tables import hands_scale_on, on_ranges, reads_onnx, reads_torch
from spikemorph.graph.traits import Moves, Shape

from . import windows
from .affine import ScaleShift, per_channel, shrunk
from .pooling import GlobalAverage, GlobalMax
from .ranges import Range
from .windows import Pairs

aten: Any = torch.ops.aten
_FLOATS = (1, 10, 11, 16)  # ONNX data types: float, float16, double, bfloat16


@dataclass(frozen=True, eq=False)
class Reshape(Moves):
    """Each sample takes `shape`; the batch axis stays. Flattening is ``Reshape((n,))``."""

    shape: tuple[Annotated[int, Between(1)], ...]

    def __call__(self, x: Tensor) -> Tensor:
        return x.reshape(len(x), *self.shape)


@dataclass(frozen=True, eq=False)
class Transpose(Moves):
    """Axes in another order; `order` counts the batch axis, which stays first."""

    order: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.order or self.order[0] or sorted(self.order) != list(range(len(self.order))):
            raise ValueError(f"order {self.order} does not name every axis once, samples first")

    def __call__(self, x: Tensor) -> Tensor:
        return x.permute(self.order)


@dataclass(frozen=True, eq=False)
class Pad(Moves):
    """Zeros around the last axes."""

    padding: Pairs

    def __call__(self, x: Tensor) -> Tensor:
        return windows.pad(x, self.padding)


@dataclass(frozen=True, eq=False)
class Identity(Moves):
    """Nothing: dropout in evaluation, casts, copies."""

    @property
    def idle(self) -> bool:
        return True

    def __call__(self, x: Tensor) -> Tensor:
        return x


@on_ranges(Identity)
def _same_ranges(op: Op, source: Range) -> Range:
    return source


@hands_scale_on(Pad)
def _past_pad(op: Pad, scale: ScaleShift, shapes: Sequence[Shape], index: int) -> ScaleShift | None:
    """Zeros beside the positions have the channel's gain; new channels have none."""
    (source,) = shapes
    if len(op.padding) == len(source) and any(op.padding[0]):
        return None
    if per_channel(scale.gain) is None:
        return None
    shift = op(scale.shift.double().expand(source)[None])[0]
    return ScaleShift(scale.gain.double(), shrunk(shift))


@reads_torch(
    aten.clone.default, aten.alias.default, aten.contiguous.default, aten.detach.default,
    aten.detach_.default, aten.lift_fresh_copy.default,
)  # fmt: skip
@reads_onnx("Identity")
@samples_anywhere
def _read_identity(call: Call) -> Identity:
    return Identity()


@reads_torch(
    aten.dropout.default, aten.dropout_.default, aten.feature_dropout.default,
    aten.feature_dropout_.default, aten.alpha_dropout.default, aten.feature_alpha_dropout.default,
)  # fmt: skip
@reads_onnx("Dropout")
@samples_anywhere
def _read_dropout(call: Call) -> Identity:
    training = call.optional(2)  # an input of ONNX from operator set 12 on
    if call.option("train", False) or (training is not None and bool(training)):
        raise Refusal("dropout is on", "export the model in eval mode: model.eval()")
    return Identity()


@reads_torch(aten.to.dtype, aten._to_copy.default)
@samples_anywhere
def _read_cast_torch(call: Call) -> Identity:
    kind = call.option("dtype", torch.float32)
    if not kind.is_floating_point:
        raise Refusal(f"it rounds to {kind}", "keep activations in floating point")
    return Identity()


@reads_onnx("Cast")
@samples_anywhere
def _read_cast_onnx(call: Call) -> Identity:
    kind = int(call.option("to"))
    if kind not in _FLOATS:
        raise Refusal(f"it rounds to ONNX data type {kind}", "keep activations in floating point")
    return Identity()


@reads_torch(
    aten.flatten.using_ints, aten.view.default, aten.reshape.default, aten._unsafe_view.default,
    aten.squeeze.dim, aten.squeeze.dims, aten.squeeze.default, aten.unsqueeze.default,
    aten.unflatten.int, aten.view_copy.default, aten.squeeze_.dim, aten.unsqueeze_.default,
)  # fmt: skip
@samples_anywhere
def _read_reshape_torch(call: Call) -> Placed:
    """Torch states the output's shape, so all reshaping calls are one."""
    return _reshape(call)


def _reshape(call: Call) -> Placed:
    shape, batch = call.reshaped()
    return Placed((Reshape(shape),), batch)


@reads_torch(aten.permute.default, aten.transpose.int, aten.t.default)
@samples_anywhere
def _read_permute(call: Call) -> Placed:
    rank = call.edge.rank
    if call.op == "permute":
        order = [int(d) % rank for d in call.option("dims")]
    else:
        order = list(range(rank))
        a, b = (int(call.option(k, k == "dim1")) % rank for k in ("dim0", "dim1"))
        order[a], order[b] = order[b], order[a]
    return _transpose(call.edge, order)


@reads_torch(aten.movedim.int, aten.movedim.intlist)
@samples_anywhere
def _read_movedim(call: Call) -> Placed:
    rank = call.edge.rank
    came, goes = (_axes(call.option(key), rank) for key in ("source", "destination"))
    others = iter(axis for axis in range(rank) if axis not in came)
    places = dict(zip(goes, came, strict=True))
    return _transpose(call.edge, [places[n] if n in places else next(others) for n in range(rank)])


def _axes(given: int | Sequence[int], rank: int) -> list[int]:
    """Axes counted from the front."""
    return [axis % rank for axis in ([given] if isinstance(given, int) else given)]


def _transpose(edge: Edge, order: Sequence[int]) -> Placed:
    """Samples stay first in the graph, wherever the source puts them."""
    inside = [edge.axis(axis) for axis in order if axis != edge.batch]
    moved = Identity() if inside == sorted(inside) else Transpose((0, *inside))
    return Placed((moved,), order.index(edge.batch))


@reads_torch(aten.pad.default, aten.constant_pad_nd.default)
def _read_pad_torch(call: Call) -> Pad:
    call.refuse_unless("mode", ["constant"], "constant")
    flat = [int(n) for n in call.option("pad")]
    padding = tuple(zip(flat[0::2], flat[1::2], strict=True))[::-1]
    if len(padding) > len(call.edge.shape):
        raise Refusal("it pads the batch axis", "pad the axes of a sample")
    return _pad(padding, call.option("value", 0) or 0)


def _pad(padding: Pairs, value: float) -> Pad:
    if value != 0:
        raise Refusal(f"it pads with {value:g}", "pad with zero")
    if any(n < 0 for pair in padding for n in pair):
        raise Refusal("it crops (negative padding)", "crop the input instead")
    while len(padding) > 1 and padding[0] == (0, 0):  # the same op however many axes are named
        padding = padding[1:]
    return Pad(padding)


@reads_torch(aten.mean.dim, aten.amax.default)
def _read_global_torch(call: Call) -> tuple[Op, ...]:
    op = GlobalMax() if call.op == "amax" else GlobalAverage()
    return _global(op, call.edge, call.option("dim", ()), bool(call.option("keepdim", False)))


def _global(op: Op, edge: Edge, axes: Sequence[int], keep: bool) -> tuple[Op, ...]:
    rank = len(edge.shape) + 1
    if rank < 3 or sorted(int(a) % rank for a in axes) != list(range(2, rank)):
        raise Refusal(
            f"it reduces axes {tuple(axes)} of a sample of shape {edge.shape}",
            "reduce all positions and nothing else: axes (2, 3) of images",
        )
    return (op,) if keep else (op, Reshape(edge.shape[:1]))


@reads_onnx("ReduceMean", "ReduceMax")
def _read_global_onnx(call: Call) -> tuple[Op, ...]:
    given = call.optional(1)  # an input from operator set 18 on, an attribute before
    axes = call.option("axes", []) if given is None else given.tolist()
    if not axes and call.option("noop_with_empty_axes", 0):
        return (Identity(),)
    op = GlobalMax() if call.op == "ReduceMax" else GlobalAverage()
    return _global(op, call.edge, axes, bool(call.option("keepdims", 1)))


@reads_onnx("Flatten", "Reshape", "Squeeze", "Unsqueeze")
@samples_anywhere
def _read_reshape_onnx(call: Call) -> Placed:
    """The reader works out the output's shape, so all reshaping calls are one."""
    return _reshape(call)


@reads_onnx("Transpose")
@samples_anywhere
def _read_transpose(call: Call) -> Placed:
    rank = call.edge.rank
    order = [int(a) % rank for a in call.option("perm", tuple(range(rank))[::-1])]
    return _transpose(call.edge, order)


@reads_onnx("Pad")
def _read_pad_onnx(call: Call) -> Pad:
    call.refuse_unless("mode", ["constant"], "constant")
    if call.version < 11:
        flat, value = list(call.option("pads")), float(call.option("value", 0.0))
    else:
        flat, fill = call.constant(1, "pads").tolist(), call.optional(2)
        value = 0.0 if fill is None else float(fill)
    rank = len(call.edge.shape) + 1
    chosen = call.optional(3)
    axes = range(rank) if chosen is None else [int(a) % rank for a in chosen]
    named = dict(zip(axes, windows.onnx_pads(flat, len(flat) // 2), strict=True))
    padding = tuple(named.get(axis, (0, 0)) for axis in range(rank))
    if padding[0] != (0, 0):
        raise Refusal("it pads the batch axis")
    return _pad(padding[1:], value)
