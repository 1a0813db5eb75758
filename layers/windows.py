"""Where the windows of convolutions and pools lie: strides, paddings, sizes, per axis."""

from collections.abc import Sequence
from functools import reduce
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from spikemorph.graph.calls import Call, Refusal
from spikemorph.graph.fields import Between

_WIDEST = 2**20  # of a window, a stride or a padding
Cells = Annotated[int, Between(0, _WIDEST)]
Sizes = tuple[Annotated[int, Between(1, _WIDEST)], ...]
Pairs = tuple[tuple[Cells, Cells], ...]  # (before, after) per axis


def sizes(value: Any, axes: int) -> Sizes:
    """One number per axis from a number or a list."""
    numbers = [value] if isinstance(value, int) else list(value)
    return tuple(int(n) for n in (numbers * axes if len(numbers) == 1 else numbers))


def pairs(value: Any, axes: int) -> Pairs:
    """The same padding before and after on every axis, as torch gives it."""
    return tuple((n, n) for n in sizes(value, axes))


def onnx_pads(value: Sequence[int], axes: int) -> Pairs:
    """ONNX lists all befores, then all afters."""
    return tuple(zip(map(int, value[:axes]), map(int, value[axes:]), strict=True))


def same_pads(
    shape: Sequence[int], kernel: Sizes, stride: Sizes, dilation: Sizes, *, upper: bool
) -> Pairs:
    """Padding for an output of ceil(size / stride); an odd cell goes after (upper) or before."""
    found = []
    for size, k, s, d in zip(shape, kernel, stride, dilation, strict=True):
        total = max(0, (-(-size // s) - 1) * s + (k - 1) * d + 1 - size)
        small, large = total // 2, total - total // 2
        found.append((small, large) if upper else (large, small))
    return tuple(found)


def onnx_padding(call: Call, kernel: Sizes, stride: Sizes, dilation: Sizes) -> Pairs:
    """The padding that an ONNX convolution or pool asks for, explicit or automatic."""
    axes = len(kernel)
    auto = call.option("auto_pad", "NOTSET")
    if auto in ("NOTSET", ""):
        found = onnx_pads(call.option("pads", [0] * 2 * axes), axes)
        if any(n < 0 for pair in found for n in pair):
            raise Refusal(f"it crops (pads {found})", "crop the input instead")
        return found
    if auto == "VALID":
        return pairs(0, axes)
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        shape = call.edges[0].shape[1:]
        return same_pads(shape, kernel, stride, dilation, upper=auto == "SAME_UPPER")
    raise Refusal(f"its auto_pad is {auto!r}, which ONNX does not define")


def overhang(
    shape: Sequence[int], kernel: Sizes, stride: Sizes, dilation: Sizes, pads: Pairs
) -> Pairs:
    """What `ceil_mode` adds after each axis; windows that start in the padding are dropped."""
    found = []
    for size, k, s, d, (before, after) in zip(shape, kernel, stride, dilation, pads, strict=True):
        reach = size + before + after - (k - 1) * d - 1
        steps = -(-reach // s)
        if steps * s >= size + before:
            steps -= 1
        found.append((0, max(0, steps * s - reach)))
    return tuple(found)


def added(left: Pairs, right: Pairs) -> Pairs:
    """Paddings laid on top of each other."""
    return tuple((a + c, b + d) for (a, b), (c, d) in zip(left, right, strict=True))


def pad(x: Tensor, padding: Pairs, value: float = 0) -> Tensor:
    """Pad the last axes of `x`."""
    if not any(before or after for before, after in padding):
        return x
    return F.pad(x, [n for pair in reversed(padding) for n in pair], value=value)


def greatest(x: Tensor, kernel: Sizes, stride: Sizes, dilation: Sizes) -> Tensor:
    """The greatest value in each window over the last axes: one axis after another, slice by slice.

    Where no gradient is asked for, that is many times faster than torch's own pools on a CPU.
    """
    for axis, (k, s, d) in enumerate(zip(kernel, stride, dilation, strict=True), -len(kernel)):
        if min(k, s, d) < 1 or (k - 1) * d >= x.shape[axis]:  # before anything is as long as k
            raise RuntimeError(f"windows of {k} cells, {d} apart, do not fit {x.shape[axis]} cells")
        count = (x.shape[axis] - (k - 1) * d - 1) // s + 1
        reach = 1  # cells that a value stands for: doubled, so that wide windows take few slices
        while reach * 8 <= k:
            length = x.shape[axis] - reach * d
            x = torch.maximum(x.narrow(axis, 0, length), x.narrow(axis, reach * d, length))
            reach *= 2
        behind: list[Any] = [slice(None)] * (-axis - 1)
        starts = [*range(0, k - reach, reach), k - reach]
        ends = [(i * d, i * d + (count - 1) * s + 1) for i in starts]
        x = reduce(torch.maximum, [x[(..., slice(*end, s), *behind)] for end in ends])
    return x
