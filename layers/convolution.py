"""Convolution in one, two or three dimensions, with groups, dilation and any padding."""

from dataclasses import dataclass
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from spikemorph.graph import Op
from spikemorph.graph.calls import Call, Refusal
from spikemorph.graph.fields import NUMBERS, TRUTHS, Between, Count, Shape
from spikemorph.graph.tables import on_increments, on_integers, on_ranges, reads_onnx, reads_torch

from .ranges import Range, weighted
from .windows import Pairs, Sizes, onnx_padding, pad, pairs, same_pads, sizes

aten: Any = torch.ops.aten
_FARTHEST = 2**31 - 1  # what torch counts positions with
_CONVOLVE: dict[int, Any] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


@dataclass(frozen=True, eq=False)
class Convolution(Op):
    """``y = weight * x + bias``.

    ``weight`` is (out, in / groups, *kernel); ``bias`` is (out,), or (out, *output size) where a
    shift before zero padding was folded in. ``mask``, bool and shaped like the weight, says which
    weights are kept (`masks.py`); None where nothing was pruned.
    """

    learns = ("weight", "bias")

    weight: Annotated[Tensor, NUMBERS, Shape("out", "in / groups", "*axes")]
    bias: Annotated[Tensor, NUMBERS, Shape("out", "*size")] | None
    stride: Annotated[Sizes, Count("axes")]
    padding: Annotated[Pairs, Count("axes")]
    dilation: Annotated[Sizes, Count("axes")]
    groups: Annotated[int, Between(1)] = 1
    mask: Annotated[Tensor, TRUTHS, Shape("out", "in / groups", "*axes")] | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.axes <= 3:
            raise ValueError(f"a weight over {self.axes} axes: 1 to 3 are supported")
        if self.bias is not None and self.bias.dim() not in (1, 1 + self.axes):
            raise ValueError(f"a bias of {self.bias.dim()} axes beside a weight over {self.axes}")

    @property
    def axes(self) -> int:
        """The number of spatial axes."""
        return self.weight.dim() - 2

    def products(self, x: Tensor) -> Tensor:
        """The convolution without its bias, in the number type of `x`."""
        even = all(before == after for before, after in self.padding)
        inner = tuple(before for before, _ in self.padding) if even else 0
        x = x if even else pad(x, self.padding)
        weight = self.weight.to(x)
        return _CONVOLVE[self.axes](x, weight, None, self.stride, inner, self.dilation, self.groups)

    def __call__(self, x: Tensor) -> Tensor:
        y = self.products(x)
        return y if self.bias is None else y + bias_map(self.bias, self.axes).to(y)


def bias_map(bias: Tensor, axes: int) -> Tensor:
    """A bias as something to add to (sample, out, *size)."""
    return bias.reshape(-1, *[1] * axes) if bias.dim() == 1 else bias


def by_row(op: Convolution, values: Tensor) -> Tensor:
    """A number per input channel (or one for all) as (out, in / groups), beside the weight."""
    inside = op.weight.shape[1]
    by_group = values.expand(inside * op.groups).reshape(op.groups, 1, inside)
    return by_group.expand(-1, len(op.weight) // op.groups, -1).reshape(-1, inside)


@on_integers(Convolution)
def _on_integers(op: Convolution, x: Tensor) -> Tensor:
    return op(x)


@on_increments(Convolution)
def _on_increments(op: Convolution, x: Tensor) -> Tensor:
    return op.products(x)


@on_ranges(Convolution)
def _on_ranges(op: Convolution, source: Range) -> Range:
    return weighted(op.weight, source, op.groups, op.bias)


def _checked(
    weight: Tensor, bias: Tensor | None, stride: Sizes, padding: Pairs, dilation: Sizes, groups: int
) -> Convolution:
    """A convolution whose windows are some: torch sees to that only when it computes values."""
    numbers = (*stride, *dilation, groups)
    if min(numbers) < 1 or max(*numbers, *(n for pair in padding for n in pair)) > _FARTHEST:
        raise Refusal(
            f"its strides {stride}, dilations {dilation}, pads {padding} or {groups} groups are no "
            "windows",
            "check the model",
        )
    return Convolution(weight, bias, stride, padding, dilation, groups)


@reads_torch(
    aten.conv1d.default, aten.conv2d.default, aten.conv3d.default,
    aten.conv1d.padding, aten.conv2d.padding, aten.conv3d.padding,
)  # fmt: skip
def _read_torch(call: Call) -> Convolution:
    weight, bias = call.constant(1, "weight"), call.optional(2)
    axes = weight.dim() - 2
    stride, dilation = (sizes(call.option(key, 1), axes) for key in ("stride", "dilation"))
    wish = call.option("padding", 0)
    if wish == "same":
        padding = same_pads((1,) * axes, tuple(weight.shape[2:]), (1,) * axes, dilation, upper=True)
    else:
        padding = pairs(0 if wish == "valid" else wish, axes)
    return _checked(weight, bias, stride, padding, dilation, int(call.option("groups", 1)))


@reads_torch(aten.convolution.default)
def _read_torch_general(call: Call) -> Convolution:
    if call.option("transposed", False):
        raise Refusal("transposed convolution is not supported", "use upsampling and convolution")
    return _read_torch(call)


@reads_onnx("Conv")
def _read_onnx(call: Call) -> Convolution:
    weight, bias = call.constant(1, "weight"), call.optional(2)
    kernel = tuple(weight.shape[2:])
    if len(kernel) not in _CONVOLVE:
        raise Refusal(f"a convolution over {len(kernel)} axes is not supported")
    stride, dilation = (sizes(call.option(key, 1), len(kernel)) for key in ("strides", "dilations"))
    padding = onnx_padding(call, kernel, stride, dilation)
    return _checked(weight, bias, stride, padding, dilation, int(call.option("group", 1)))
