"""Linear (fully connected) layers: every input to every output."""

from dataclasses import dataclass
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from spikemorph.graph import Op
from spikemorph.graph.calls import Call, Edge, Refusal, samples_anywhere
from spikemorph.graph.fields import NUMBERS, TRUTHS, Shape
from spikemorph.graph.tables import (
    on_ranges,
    opens,
    reads_onnx,
    reads_torch,
    takes_scale_ahead,
    takes_scale_behind,
)
from spikemorph.graph.traits import Weighted

from .affine import ScaleShift
from .convolution import Convolution
from .ranges import Range, weighted
from .shape import Transpose
from .windows import pairs

Sizes = tuple[int, ...]

aten: Any = torch.ops.aten


@dataclass(frozen=True, eq=False)
class Linear(Weighted):
    """``y = x weight^T + bias``: weight (out, in), bias (out,), over the last axis of `x`.

    In canonical and integer graphs that is the only axis of a sample. ``mask``, bool and shaped like
    the weight, says which weights are kept (`masks.py`); None where nothing was pruned.
    """

    learns, reads = ("weight", "bias"), -1

    weight: Annotated[Tensor, NUMBERS, Shape("out", "in")]
    bias: Annotated[Tensor, NUMBERS, Shape("out")] | None
    mask: Annotated[Tensor, TRUTHS, Shape("out", "in")] | None = None

    def products(self, x: Tensor) -> Tensor:
        """The product without the bias, in the number type of `x`."""
        return F.linear(x, self.weight.to(x))

    def beside(self, values: Tensor) -> Tensor:
        return values

    def __call__(self, x: Tensor) -> Tensor:
        y = self.products(x)
        return y if self.bias is None else y + self.bias.to(y)


@on_ranges(Linear)
def _on_ranges(op: Linear, source: Range) -> Range:
    fits = len(source.low) in (1, op.weight.shape[1])
    return weighted(op.weight, source if fits else source.whole(), 1, op.bias)


@takes_scale_behind(Linear)
def _scale_behind(op: Linear, scale: ScaleShift, shape: Sizes) -> Linear | None:
    """``gain (W x + b) + shift``, where these depend on the feature alone."""
    gain, shift = _per_feature(scale.gain), _per_feature(scale.shift)
    if gain is None or shift is None:
        return None
    shift = shift if op.bias is None else op.bias.double() * gain + shift
    bias = shift.expand(shape[-1]).clone()
    return op.having(weight=op.weight.double() * gain.reshape(-1, 1), bias=bias)


@takes_scale_ahead(Linear)
def _scale_ahead(op: Linear, scale: ScaleShift, source: Sizes) -> Linear | None:
    """``W (gain x + shift) + b``, where these depend on the feature alone."""
    gain, shift = _per_feature(scale.gain), _per_feature(scale.shift)
    if gain is None or shift is None:
        return None
    bias = op.weight.double() @ shift.expand(source[-1])
    bias = bias if op.bias is None else bias + op.bias.double()
    return op.having(weight=op.weight.double() * gain, bias=bias)


def _per_feature(constant: Tensor) -> Tensor | None:
    """A constant that depends on the last axis at most, as (feature,) or (1,), float64."""
    last = constant.shape[-1] if constant.dim() else 1
    return constant.double().reshape(-1) if constant.numel() == last else None


@opens(Linear)
def _opened(op: Linear, source: Sizes) -> tuple[tuple[str, Op], ...] | None:
    """Over positions, a convolution of one cell: features become channels, and come back."""
    axes = len(source) - 1
    if not 1 <= axes <= 3:
        return None
    ones, zero = (1,) * axes, pairs(0, axes)
    mask = None if op.mask is None else op.mask.reshape(*op.mask.shape, *ones)
    weight = op.weight.reshape(*op.weight.shape, *ones)
    return (
        ("turned", Transpose((0, axes + 1, *range(1, axes + 1)))),
        ("mixed", Convolution(weight, op.bias, ones, zero, ones, mask=mask)),
        ("", Transpose((0, *range(2, axes + 2), 1))),
    )


def _require_features_last(edge: Edge) -> None:
    if edge.batch == edge.rank - 1:
        raise Refusal("samples lie on the last axis of its input", "give it features there")


@reads_torch(aten.linear.default)
@samples_anywhere
def _read_linear(call: Call) -> Linear:
    _require_features_last(call.edge)
    return Linear(call.constant(1, "weight"), call.optional(2))


@reads_torch(aten.addmm.default)
def _read_addmm(call: Call) -> Linear:
    call.refuse_unless("alpha", [1], 1)
    call.refuse_unless("beta", [1], 1)
    weight = call.constant(2, "weight").t()
    return Linear(weight, _bias(call.constant(0, "bias"), len(weight)))


@reads_torch(aten.matmul.default, aten.mm.default)
@reads_onnx("MatMul")
@samples_anywhere
def _read_matmul(call: Call) -> Linear:
    if not isinstance(call.input(0), Edge):
        raise Refusal("the constant stands left of the product", "write it as x @ weight")
    _require_features_last(call.edge)
    weight = call.constant(1, "second factor")
    if weight.dim() != 2:
        raise Refusal(f"its constant has {weight.dim()} axes, two are expected")
    return Linear(weight.t(), None)


@reads_onnx("Gemm")
def _read_gemm(call: Call) -> Linear:
    call.refuse_unless("transA", [0], 0)
    weight, bias = call.constant(1, "B"), call.optional(2)
    weight = weight if call.option("transB", 0) else weight.t()
    alpha, beta = call.option("alpha", 1.0), call.option("beta", 1.0)
    weight = weight if alpha == 1 else weight * alpha
    if bias is not None:
        bias = _bias(bias if beta == 1 else bias * beta, len(weight))
    return Linear(weight, bias)


def _bias(bias: Tensor, rows: int) -> Tensor:
    """A summand that broadcasts to (sample, rows), as (rows,)."""
    if bias.dim() > 2 or (bias.dim() == 2 and len(bias) != 1):
        raise Refusal(f"its summand of shape {tuple(bias.shape)} differs between samples")
    flat = bias.reshape(-1)
    return flat if len(flat) == rows else flat.expand(rows).clone()
