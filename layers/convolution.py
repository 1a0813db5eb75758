"""Convolution in one, two or three dimensions, with groups, dilation and any padding."""

from dataclasses import dataclass
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from spikemorph.graph.calls import Call, Refusal
from spikemorph.graph.fields import NUMBERS, TRUTHS, Between, Count, Shape
from spikemorph.graph.tables import (
    on_ranges,
    reads_onnx,
    reads_torch,
    takes_scale_ahead,
    takes_scale_behind,
)
from spikemorph.graph.traits import Weighted

from .affine import ScaleShift, per_channel
from .ranges import Range, weighted
from .windows import Pairs, Sizes, onnx_padding, pad, pairs, same_pads, sizes

aten: Any = torch.ops.aten
_FARTHEST = 2**31 - 1  # what torch counts positions with
_CONVOLVE: dict[int, Any] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


@dataclass(frozen=True, eq=False)
class Convolution(Weighted):
    """``y = weight * x + bias``.

    ``weight`` is (out, in / groups, *kernel); ``bias`` is (out,), or (out, *output size) where a
    shift before zero padding was folded in. ``mask``, bool and shaped like the weight, says which
    weights are kept (`masks.py`); None where nothing was pruned.
    """

    learns, local = ("weight", "bias"), True

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

    def beside(self, values: Tensor) -> Tensor:
        inside = self.weight.shape[1]
        by_group = values.expand(inside * self.groups).reshape(self.groups, 1, inside)
        rows = by_group.expand(-1, len(self.weight) // self.groups, -1)
        return rows.reshape(-1, inside, *[1] * self.axes)

    def spread(self, bias: Tensor) -> Tensor:
        return bias.reshape(-1, *[1] * self.axes) if bias.dim() == 1 else bias

    def __call__(self, x: Tensor) -> Tensor:
        y = self.products(x)
        return y if self.bias is None else y + self.spread(self.bias).to(y)


@on_ranges(Convolution)
def _on_ranges(op: Convolution, source: Range) -> Range:
    return weighted(op.weight, source, op.groups, op.bias)


@takes_scale_behind(Convolution)
def _scale_behind(op: Convolution, scale: ScaleShift, shape: Sizes) -> Convolution | None:
    """``gain (W x + b) + shift``; not where the gain varies in space."""
    gain = per_channel(scale.gain.double())
    if gain is None:
        return None
    weight = op.weight.double() * gain.reshape(-1, *[1] * (op.weight.dim() - 1))
    shift = scale.shift.double().expand(shape)
    if op.bias is not None:
        shift = op.spread(op.bias.double()) * op.spread(gain) + shift
    return op.having(weight=weight, bias=_collapsed(shift.expand(shape)))


@takes_scale_ahead(Convolution)
def _scale_ahead(op: Convolution, scale: ScaleShift, source: Sizes) -> Convolution | None:
    """``W (gain x + shift) + b``: a map where zero padding hides the shift at the border."""
    gain = per_channel(scale.gain.double())
    if gain is None:
        return None
    shift = _convolved(op, scale.shift.double(), source)
    if op.bias is not None:
        shift = op.spread(shift) + op.spread(op.bias.double())
    return op.having(weight=op.weight.double() * op.beside(gain), bias=_collapsed(shift))


def _convolved(op: Convolution, shift: Tensor, source: Sizes) -> Tensor:
    """What the layer makes of a shift: (out,) where no window meets padding, else a map."""
    by_channel = per_channel(shift)
    if by_channel is not None and not any(n for pair in op.padding for n in pair):
        rows = op.beside(by_channel).reshape(op.weight.shape[:2])
        return (op.weight.double().flatten(2).sum(2) * rows).sum(1)
    return op.products(shift.expand(source)[None])[0]


def _collapsed(bias: Tensor) -> Tensor:
    """A bias per channel where the map is the same everywhere, else the map."""
    flat = bias.reshape(len(bias), -1)
    same = bool((flat == flat[:, :1]).all())
    return flat[:, 0].clone() if same else bias.clone()


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
