"""Monotone activations, each with the input at which it first reaches a given output."""

import math
from dataclasses import dataclass
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Annotated, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from spikemorph.graph import Op
from spikemorph.graph.calls import Call, Refusal, samples_anywhere
from spikemorph.graph.fields import INFINITE, Above
from spikemorph.graph.stages import PREPARED, Seat
from spikemorph.graph.tables import reads_onnx, reads_torch
from spikemorph.graph.traits import Fires

from .affine import ScaleShift

aten: Any = torch.ops.aten
_LARGEST = 3.4028234e38  # float32
_DIGITS = 40  # of the decimal logarithms: the same thresholds on every machine


@dataclass(frozen=True, eq=False)
class Activation(Fires, abstract=True):
    """A non-decreasing function of one number; `straight` where it is the identity but for its ends."""

    straight: ClassVar[bool] = False

    @property
    def bounds(self) -> tuple[Fraction | None, Fraction | None]:
        """The least and the greatest output, None where there is none."""
        return None, None

    def reaches(self, value: Fraction) -> Fraction | float:
        """The least input whose output is at least `value`; -inf for all inputs, inf for none."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class ReLU(Activation):
    """``max(x, 0)``."""

    straight = True

    def __call__(self, x: Tensor) -> Tensor:
        return F.relu(x)

    @property
    def bounds(self) -> tuple[Fraction | None, Fraction | None]:
        return Fraction(0), None

    def reaches(self, value: Fraction) -> Fraction | float:
        return value if value > 0 else -math.inf


@dataclass(frozen=True, eq=False)
class Clip(Activation):
    """``min(max(x, low), high)``; ReLU6 is ``Clip(0, 6)``."""

    straight = True

    low: Annotated[float, INFINITE]
    high: Annotated[float, INFINITE]

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"clip needs low < high, got {self.low} and {self.high}")

    def __call__(self, x: Tensor) -> Tensor:
        return x.clamp(self.low, self.high)

    @property
    def bounds(self) -> tuple[Fraction | None, Fraction | None]:
        ends = (None if math.isinf(end) else Fraction(end) for end in (self.low, self.high))
        low, high = ends
        return low, high

    def reaches(self, value: Fraction) -> Fraction | float:
        if value <= self.low:
            return -math.inf
        return math.inf if value > self.high else value


@dataclass(frozen=True, eq=False)
class LeakyReLU(Activation):
    """``x`` where positive, else ``slope * x``, with a slope above zero."""

    slope: Annotated[float, Above(0)]

    def __post_init__(self) -> None:
        if not 0 < self.slope < math.inf:
            raise ValueError(f"a leaky ReLU needs a slope above 0, got {self.slope}")

    def __call__(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x, self.slope)

    def reaches(self, value: Fraction) -> Fraction | float:
        return value / Fraction(self.slope) if value < 0 else value


@dataclass(frozen=True, eq=False)
class Sigmoid(Activation):
    """``1 / (1 + exp(-x))``."""

    def __call__(self, x: Tensor) -> Tensor:
        return torch.sigmoid(x)

    @property
    def bounds(self) -> tuple[Fraction | None, Fraction | None]:
        return Fraction(0), Fraction(1)

    def reaches(self, value: Fraction) -> Fraction | float:
        if value <= 0:
            return -math.inf
        return math.inf if value >= 1 else logarithm(value / (1 - value))


@dataclass(frozen=True, eq=False)
class Tanh(Activation):
    """``tanh(x)``."""

    def __call__(self, x: Tensor) -> Tensor:
        return torch.tanh(x)

    @property
    def bounds(self) -> tuple[Fraction | None, Fraction | None]:
        return Fraction(-1), Fraction(1)

    def reaches(self, value: Fraction) -> Fraction | float:
        if value <= -1:
            return -math.inf
        return math.inf if value >= 1 else logarithm((1 + value) / (1 - value)) / 2


@dataclass(frozen=True, eq=False)
class Relay(Activation):
    """The identity, put where a weighted layer would read sums: a neuron turns them into spikes."""

    straight = True

    def __call__(self, x: Tensor) -> Tensor:
        return x

    def reaches(self, value: Fraction) -> Fraction | float:
        return value


@PREPARED(Activation)
def _becomes_a_ladder(op: Activation, seat: Seat) -> None:
    """It has no row on integers: quantising makes it a ladder."""


def logarithm(value: Fraction) -> Fraction:
    """The natural logarithm, correctly rounded to 40 decimal digits, as a fraction.

    >>> float(logarithm(Fraction(1)))
    0.0
    """
    with localcontext() as context:
        context.prec = _DIGITS
        return Fraction((Decimal(value.numerator) / Decimal(value.denominator)).ln())


@reads_torch(aten.relu.default, aten.relu_.default)
@reads_onnx("Relu")
@samples_anywhere
def _read_relu(call: Call) -> ReLU:
    return ReLU()


@reads_torch(aten.sigmoid.default, aten.sigmoid_.default)
@reads_onnx("Sigmoid")
@samples_anywhere
def _read_sigmoid(call: Call) -> Sigmoid:
    return Sigmoid()


@reads_torch(aten.tanh.default, aten.tanh_.default)
@reads_onnx("Tanh")
@samples_anywhere
def _read_tanh(call: Call) -> Tanh:
    return Tanh()


def _clip(low: float, high: float) -> Activation:
    # Exporters write the largest float32 where they mean no bound.
    low = -math.inf if low <= -_LARGEST else low
    high = math.inf if high >= _LARGEST else high
    if not low < high:
        raise Refusal(f"it clips to the empty range {low:g}..{high:g}", "give min below max")
    return ReLU() if (low, high) == (0, math.inf) else Clip(low, high)


@reads_torch(
    aten.hardtanh.default, aten.hardtanh_.default, aten.clamp.default, aten.clamp_.default,
    aten.relu6.default, aten.relu6_.default, aten.clamp_min.default, aten.clamp_min_.default,
    aten.clamp_max.default, aten.clamp_max_.default,
)  # fmt: skip
@samples_anywhere
def _read_clamp(call: Call) -> Activation:
    ends = {"hardtanh": (-1.0, 1.0), "relu6": (0.0, 6.0)}
    low, high = ends.get(call.op.removesuffix("_"), (-math.inf, math.inf))
    low = call.option("min_val", call.option("min", low))
    high = call.option("max_val", call.option("max", high))
    return _clip(float(low), float(high))


@reads_onnx("Clip")
@samples_anywhere
def _read_clip(call: Call) -> Activation:
    if call.version < 11:
        return _clip(call.option("min", -math.inf), call.option("max", math.inf))
    low, high = call.optional(1), call.optional(2)
    return _clip(
        -math.inf if low is None else float(low), math.inf if high is None else float(high)
    )


@reads_onnx("Min", "Max")
def _read_bound(call: Call) -> Activation:
    edges, constants = call.edges, [i for i in call.inputs if isinstance(i, Tensor)]
    if len(edges) != 1 or len(constants) != 1 or constants[0].numel() != 1:
        raise Refusal("it compares activations", "only a bound by one constant is supported")
    if constants[0].dim() > 1 + len(edges[0].shape):
        raise Refusal("its constant has more axes than its input", "give a bound without axes")
    bound = float(constants[0])
    return _clip(-math.inf, bound) if call.op == "Min" else _clip(bound, math.inf)


def _leaky(slope: float) -> Activation:
    if not 0 <= slope < math.inf:
        raise Refusal(f"its slope is {slope:g}, so it is not monotone", "train with ReLU")
    return LeakyReLU(slope) if slope > 0 else ReLU()


@reads_torch(aten.leaky_relu.default, aten.leaky_relu_.default)
@samples_anywhere
def _read_leaky_torch(call: Call) -> Activation:
    return _leaky(float(call.option("negative_slope", 0.01)))


@reads_onnx("LeakyRelu")
@samples_anywhere
def _read_leaky_onnx(call: Call) -> Activation:
    return _leaky(float(call.option("alpha", 0.01)))


@reads_torch(aten.prelu.default)
@reads_onnx("PRelu")
def _read_prelu(call: Call) -> Activation:
    slopes = call.constant(1, "slope").reshape(-1)
    if bool((slopes != slopes[0]).any()):
        raise Refusal("its slope differs between channels", "use one slope for all channels")
    return _leaky(float(slopes[0]))


@reads_onnx("HardSigmoid")
@samples_anywhere
def _read_hard_sigmoid(call: Call) -> tuple[Op, ...]:
    gain, shift = call.option("alpha", 0.2), call.option("beta", 0.5)
    return ScaleShift(torch.tensor(gain), torch.tensor(shift)), Clip(0.0, 1.0)


@reads_torch(aten.hardsigmoid.default, aten.hardsigmoid_.default)
@samples_anywhere
def _read_hard_sigmoid_torch(call: Call) -> tuple[Op, ...]:
    return ScaleShift(torch.tensor(1 / 6), torch.tensor(0.5)), Clip(0.0, 1.0)
