"""Max, average, sum and global pooling."""

import math
from dataclasses import dataclass, replace
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from spikemorph.graph import Op
from spikemorph.graph.calls import Call, Refusal
from spikemorph.graph.fields import Count
from spikemorph.graph.tables import (
    on_increments,
    on_integers,
    on_ranges,
    opens,
    reads_onnx,
    reads_torch,
)
from spikemorph.graph.traits import Pools

from .affine import ScaleShift
from .convolution import Convolution
from .ranges import Range
from .windows import Pairs, Sizes, added, greatest, onnx_padding, overhang, pad, pairs, sizes

aten: Any = torch.ops.aten
EachAxis = Annotated[Sizes, Count("axes")]
BesideAxes = Annotated[Pairs, Count("axes")]


@dataclass(frozen=True, eq=False)
class MaxPool(Pools):
    """The greatest value in each window; padding never wins."""

    picks = True

    kernel: EachAxis
    stride: EachAxis
    padding: BesideAxes
    dilation: EachAxis

    @property
    def idle(self) -> bool:
        return _one_cell(self.kernel, self.stride, self.padding)

    def cells(self, shape: Sizes) -> int:
        return math.prod(self.kernel)

    def windows(self, shape: Sizes) -> Tensor:
        return _windows(shape, self.kernel, self.stride, self.padding, self.dilation)

    def picked(self, x: Tensor, by: Tensor) -> Tensor:
        x, by = pad(x, self.padding, 0.0), pad(by, self.padding, -torch.inf)
        places = _max_pool(by, self, places=True)
        return x.flatten(2).gather(2, places.flatten(2)).reshape(places.shape)

    def __call__(self, x: Tensor) -> Tensor:
        least = -torch.inf if x.is_floating_point() else torch.iinfo(x.dtype).min
        x = pad(x, self.padding, least)
        if x.device.type == "cpu" and not x.requires_grad:  # shapes alone are torch's to refuse
            return greatest(x, self.kernel, self.stride, self.dilation)
        return _max_pool(x, self)


def _max_pool(x: Tensor, op: MaxPool, *, places: bool = False) -> Tensor:
    """By torch's pools of padded numbers; or where in a sample's channel each was found."""
    line = len(op.kernel) == 1
    pool: Any = F.max_pool3d if len(op.kernel) == 3 else F.max_pool2d
    windows = [_two(v) for v in (op.kernel, op.stride)]
    found = pool(x[..., None] if line else x, *windows, 0, _two(op.dilation), return_indices=places)
    found = found[1] if places else found
    return found[..., 0] if line else found


def _two(values: Sizes) -> Sizes:
    return (*values, 1) if len(values) == 1 else values


@dataclass(frozen=True, eq=False)
class SumPool(Pools):
    """The sum over each window; padding adds nothing."""

    kernel: EachAxis
    stride: EachAxis
    padding: BesideAxes

    def cells(self, shape: Sizes) -> int:
        return math.prod(self.kernel)

    def windows(self, shape: Sizes) -> Tensor:
        ones = (1,) * len(self.kernel)
        return _windows(shape, self.kernel, self.stride, self.padding, ones)

    def __call__(self, x: Tensor) -> Tensor:
        x = pad(x, self.padding)
        if len(self.kernel) == 1:
            pooled = F.avg_pool2d(
                x[..., None], _two(self.kernel), _two(self.stride), divisor_override=1
            )
            return pooled[..., 0]
        pool: Any = F.avg_pool2d if len(self.kernel) == 2 else F.avg_pool3d
        return pool(x, self.kernel, self.stride, divisor_override=1)


@dataclass(frozen=True, eq=False)
class AveragePool(Pools):
    """The mean over each window: the sum over it, divided by how many of its cells count.

    Cells of `padding` count where `counts_padding`; cells of `overhang` (from ceil mode) never do.
    """

    kernel: EachAxis
    stride: EachAxis
    padding: BesideAxes
    overhang: BesideAxes
    counts_padding: bool

    @property
    def idle(self) -> bool:
        return _one_cell(self.kernel, self.stride, added(self.padding, self.overhang))

    @property
    def summed(self) -> SumPool:
        """The same windows, summed."""
        return SumPool(self.kernel, self.stride, added(self.padding, self.overhang))

    def counts(self, shape: Sizes, device: torch.device | None = None) -> Tensor:
        """How many cells count in each window, for an input of spatial `shape`: (*output size)."""
        cells = torch.ones(1, 1, *shape, dtype=torch.float64, device=device)
        inner = pad(cells, self.padding, 1.0 if self.counts_padding else 0.0)
        return SumPool(self.kernel, self.stride, self.overhang)(inner)[0, 0]

    def __call__(self, x: Tensor) -> Tensor:
        counts = self.counts(tuple(x.shape[2:]), x.device).to(x)
        return self.summed(x) / counts


@dataclass(frozen=True, eq=False)
class GlobalAverage(Pools):
    """The mean over all positions: (channel, *size) becomes (channel, 1, ...)."""

    def __call__(self, x: Tensor) -> Tensor:
        return x.mean(tuple(range(2, x.dim())), keepdim=True)


@dataclass(frozen=True, eq=False)
class GlobalMax(Pools):
    """The greatest value over all positions: (channel, *size) becomes (channel, 1, ...)."""

    picks = True

    def cells(self, shape: Sizes) -> int:
        return math.prod(shape[1:])

    def windows(self, shape: Sizes) -> Tensor:
        return torch.ones(shape, dtype=torch.int64)

    def picked(self, x: Tensor, by: Tensor) -> Tensor:
        places = by.flatten(2).argmax(2, keepdim=True)
        return x.flatten(2).gather(2, places).reshape(*x.shape[:2], *[1] * (x.dim() - 2))

    def __call__(self, x: Tensor) -> Tensor:
        return x.amax(tuple(range(2, x.dim())), keepdim=True)


def _one_cell(kernel: Sizes, stride: Sizes, padding: Pairs) -> bool:
    """Whether every window is one cell, so that nothing is pooled."""
    return {*kernel, *stride, *(n + 1 for pair in padding for n in pair)} == {1}


def _windows(shape: Sizes, kernel: Sizes, stride: Sizes, padding: Pairs, dilation: Sizes) -> Tensor:
    """In how many windows each cell of (channel, *size) is: how often each is added up."""
    one = Convolution(torch.ones(1, 1, *kernel), None, stride, padding, dilation)
    with torch.enable_grad():
        x = torch.zeros(1, 1, *shape[1:], dtype=torch.float64, requires_grad=True)
        (found,) = torch.autograd.grad(one.products(x).sum(), x)
    return found[0].round().to(torch.int64).expand(shape)


def accumulate(op: Op, *sums: Tensor) -> Tensor:
    """The row of ops that pass no increments on: they read sums, their output is differenced."""
    return op(*sums)


@on_integers(MaxPool, GlobalMax, SumPool)
def _on_integers(op: Op, x: Tensor) -> Tensor:
    return op(x)


@on_increments(SumPool)
def _on_increments(op: SumPool, x: Tensor) -> Tensor:
    return op(x)


on_increments(MaxPool, GlobalMax)(accumulate)


@opens(GlobalAverage)
def _opened_global(op: GlobalAverage, source: Sizes) -> tuple[tuple[str, Op], ...]:
    """A sum, and a scale of one over the number of cells."""
    size = source[1:]
    count = torch.tensor(float(math.prod(size)), dtype=torch.float64)
    return _sum_and_scale(SumPool(size, size, pairs(0, len(size))), count)


@opens(AveragePool)
def _opened(op: AveragePool, source: Sizes) -> tuple[tuple[str, Op], ...]:
    """A sum, and a scale of one over the number of cells that count."""
    counts = op.counts(source[1:])
    first = counts.reshape(-1)[0]
    return _sum_and_scale(op.summed, first if bool((counts == first).all()) else counts[None])


def _sum_and_scale(summed: SumPool, counts: Tensor) -> tuple[tuple[str, Op], ...]:
    return ("sum", summed), ("", ScaleShift(1 / counts, torch.tensor(0.0)))


@on_ranges(MaxPool, GlobalMax)
def _max_ranges(op: Op, source: Range) -> Range:
    return source


@on_ranges(SumPool)
def _sum_ranges(op: SumPool, source: Range) -> Range:
    cells = 1
    for k in op.kernel:
        cells *= k
    return source.scaled(torch.tensor(cells))


@reads_torch(
    aten.max_pool1d.default, aten.max_pool2d.default, aten.max_pool3d.default,
    aten.max_pool1d_with_indices.default, aten.max_pool2d_with_indices.default,
    aten.max_pool3d_with_indices.default,
)  # fmt: skip
def _read_max_torch(call: Call) -> MaxPool:
    kernel, stride, padding = _torch_windows(call)
    dilation = sizes(call.option("dilation", 1), len(kernel))
    return _max(call, MaxPool(kernel, stride, padding, dilation), call.option("ceil_mode", False))


def _max(call: Call, op: MaxPool, ceil: bool) -> MaxPool:
    shape = call.edge.shape[1:]
    if ceil:
        beyond = overhang(shape, op.kernel, op.stride, op.dilation, op.padding)
        op = replace(op, padding=added(op.padding, beyond))
    if len(shape) != len(op.kernel):
        raise Refusal(f"its windows have {len(op.kernel)} axes, its input's positions {len(shape)}")
    for axis, size in enumerate(shape):  # a window is empty where it is so on some axis
        here = slice(axis, axis + 1)
        one = MaxPool(op.kernel[here], op.stride[here], op.padding[here], op.dilation[here])
        if bool(one(torch.zeros(1, 1, size)).isinf().any()):
            raise Refusal("one of its windows holds nothing but padding", "pad less")
    return op


@reads_torch(aten.avg_pool1d.default, aten.avg_pool2d.default, aten.avg_pool3d.default)
def _read_average_torch(call: Call) -> AveragePool:
    if call.option("divisor_override") is not None:
        raise Refusal("it divides by a number of its own", "drop divisor_override")
    kernel, stride, padding = _torch_windows(call)
    ceil = call.option("ceil_mode", False)
    return _average(call, kernel, stride, padding, ceil, call.option("count_include_pad", True))


def _torch_windows(call: Call) -> tuple[Sizes, Sizes, Pairs]:
    axes = int(call.op.split("pool")[1][0])
    kernel = sizes(call.option("kernel_size"), axes)
    stride = sizes(call.option("stride") or kernel, axes)
    return kernel, stride, pairs(call.option("padding", 0), axes)


def _average(
    call: Call, kernel: Sizes, stride: Sizes, padding: Pairs, ceil: bool, counts: bool
) -> AveragePool:
    hang = pairs(0, len(kernel))
    if ceil:
        hang = overhang(call.edge.shape[1:], kernel, stride, (1,) * len(kernel), padding)
    op = AveragePool(kernel, stride, padding, hang, bool(counts))
    if not bool(op.counts(call.edge.shape[1:]).all()):
        raise Refusal("one of its windows has no cell that counts", "pad less")
    return op


@reads_onnx("MaxPool")
def _read_max_onnx(call: Call) -> MaxPool:
    kernel, stride, dilation, padding = _onnx_windows(call)
    return _max(call, MaxPool(kernel, stride, padding, dilation), bool(call.option("ceil_mode", 0)))


@reads_onnx("AveragePool")
def _read_average_onnx(call: Call) -> AveragePool:
    kernel, stride, dilation, padding = _onnx_windows(call)
    if set(dilation) != {1}:
        raise Refusal("it averages with dilation")
    ceil, counts = call.option("ceil_mode", 0), call.option("count_include_pad", 0)
    return _average(call, kernel, stride, padding, bool(ceil), bool(counts))


def _onnx_windows(call: Call) -> tuple[Sizes, Sizes, Sizes, Pairs]:
    kernel = tuple(int(k) for k in call.option("kernel_shape"))
    stride, dilation = (sizes(call.option(key, 1), len(kernel)) for key in ("strides", "dilations"))
    return kernel, stride, dilation, onnx_padding(call, kernel, stride, dilation)


@reads_onnx("GlobalAveragePool", "GlobalMaxPool")
def _read_global(call: Call) -> Op:
    if len(call.edge.shape) < 2:
        raise Refusal("its input has no positions to pool", "give it (channel, position, ...)")
    return GlobalMax() if call.op == "GlobalMaxPool" else GlobalAverage()


@reads_torch(
    aten.adaptive_avg_pool1d.default, aten.adaptive_avg_pool2d.default,
    aten.adaptive_avg_pool3d.default, aten._adaptive_avg_pool2d.default,
    aten._adaptive_avg_pool3d.default,
)  # fmt: skip
def _read_adaptive_average(call: Call) -> Op:
    kernel = _adaptive(call)
    if kernel == call.edge.shape[1:]:
        return GlobalAverage()
    zero = pairs(0, len(kernel))
    return AveragePool(kernel, kernel, zero, zero, counts_padding=True)


@reads_torch(
    aten.adaptive_max_pool1d.default, aten.adaptive_max_pool2d.default,
    aten.adaptive_max_pool3d.default,
)  # fmt: skip
def _read_adaptive_max(call: Call) -> Op:
    kernel = _adaptive(call)
    if kernel == call.edge.shape[1:]:
        return GlobalMax()
    return MaxPool(kernel, kernel, pairs(0, len(kernel)), (1,) * len(kernel))


def _adaptive(call: Call) -> Sizes:
    shape = call.edge.shape[1:]
    wish = sizes(call.option("output_size"), len(shape))
    if any(size % n for size, n in zip(shape, wish, strict=True)):
        raise Refusal(
            f"it pools {shape} adaptively to {wish}, so windows differ in size",
            "give an input size whose feature map is a multiple of the output size",
        )
    return tuple(size // n for size, n in zip(shape, wish, strict=True))
