"""The real values that a network's inputs may take, and the integer grid that they are rounded to."""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated

import torch
from torch import Tensor

from .errors import InputError, Repair
from .fields import Above, Between
from .records import Record

_NARROWEST, _WIDEST = 1e-6, 1e30  # of declared ranges
_LEAST = 1e-30  # of any range: floats hold it, and its reciprocal
FINE = 4095  # steps of a 12-bit grid, which claims of robustness ask for
_MOST_POINTS = 2**32  # 32-bit inputs tell no more apart
_ROUNDING = 2.0**-22  # of a range: what a few operations on 32-bit numbers take from a value


@dataclass(frozen=True)
class Interval(Record):
    """The real values from `low` to `high`, both exact: what a network's inputs were declared to be."""

    low: Fraction
    high: Fraction

    def __post_init__(self) -> None:
        if self.high - self.low < _LEAST or max(-self.low, self.high) > _WIDEST:
            raise ValueError(
                f"an interval needs low < high, {_LEAST} apart or more, within {_WIDEST}, got {self!r}"
            )

    @classmethod
    def of(cls, low: float, high: float) -> "Interval":
        """The interval between two floats, exactly.

        Raises
        ------
        InputError
            If it is empty, or too narrow or too wide for 32-bit numbers.
        """
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise InputError(f"the input range {low},{high} is empty; give two numbers, low < high")
        if high - low < _NARROWEST:
            raise InputError(
                f"the input range {low},{high} is too narrow: give {_NARROWEST} or more"
            )
        if max(-low, high) > _WIDEST:
            raise InputError(f"the input range {low},{high} is too wide: stay within {_WIDEST}")
        return cls(Fraction(low), Fraction(high))

    @property
    def width(self) -> Fraction:
        """How far its ends are apart."""
        return self.high - self.low

    @property
    def ends(self) -> tuple[float, float]:
        """Low and high as floats."""
        return float(self.low), float(self.high)

    def from_bytes(self, x: Tensor) -> Tensor:
        """The values that bytes 0..255 stand for, linearly from low to high, as float32."""
        low, high = self.ends
        return low + x.to(torch.float32) * (high - low) / 255

    def from_unit(self, share: Tensor) -> Tensor:
        """The values at shares 0..1 of the way from low to high, in their number type."""
        low, high = self.ends
        return share if self == UNIT else low + share * (high - low)

    def to_unit(self, x: Tensor) -> Tensor:
        """The share 0..1 of the way from low to high at which every value lies, in its number type."""
        if self == UNIT:
            return x
        return ((x.double() - float(self.low)) / float(self.width)).clamp(0, 1).to(x.dtype)

    def clamped(self, x: Tensor, slack: float) -> Tensor:
        """Values that lie no more than `slack` outside, brought to the ends.

        Raises
        ------
        InputError
            Naming the first sample that is no number, or further out.
        """
        low, high = self.ends
        bad = ~((x >= low - slack) & (x <= high + slack))  # also what is no number
        if bool(bad.any()):
            index = tuple(int(i) for i in bad.nonzero()[0])
            place, value = f"sample {index[0]}, element {index[1:]}", float(x[index])
            if not math.isfinite(value):
                raise InputError(f"{place}: {value:g} is no number; remove or repair that sample")
            raise InputError(
                f"{place}: {value:g} is outside the declared input range {low:g}..{high:g}; give data "
                "in that range, as bytes or in the network's own units",
                Repair(
                    "input_range", _around(x), "or declare another when the network is made: {}"
                ),
            )
        return x.clamp(low, high)

    def __str__(self) -> str:
        low, high = self.ends
        return f"{low:g}..{high:g}"


def _around(x: Tensor) -> tuple[float, float]:
    """A round range that holds all finite values, and zero."""
    finite = x[x.isfinite()]
    ends = min(float(finite.min()), 0.0), max(float(finite.max()), 0.0)
    unit = 10.0 ** math.floor(math.log10(max(-ends[0], ends[1], _LEAST)) - 1)
    low, high = math.floor(ends[0] / unit) * unit, math.ceil(ends[1] / unit) * unit
    return float(f"{low:.6g}"), float(f"{high:.6g}")


UNIT = Interval(Fraction(0), Fraction(1))


@dataclass(frozen=True)
class Grid(Record):
    """Real value = step * integer, for integers from `low` to `high`; zero is on the grid.

    `declared` holds the range that inputs were declared to have, where its ends are no grid points:
    they lie half a step from one at most.

    >>> Grid.of(0.0, 1.0, bits=8)
    Grid(step=1/255, low=0, high=255)
    """

    step: Annotated[Fraction, Above(0)]
    low: Annotated[int, Between(-_MOST_POINTS, 0)]
    high: Annotated[int, Between(0, _MOST_POINTS)]
    declared: Interval | None = None

    def __post_init__(self) -> None:
        if self.step <= 0 or not self.low <= 0 <= self.high or self.low == self.high:
            raise ValueError(f"a grid needs a positive step and zero inside its range, got {self}")
        if self.high - self.low > _MOST_POINTS:
            raise ValueError(f"a grid has {_MOST_POINTS} points at most, got {self}")
        points = self.low * self.step, self.high * self.step
        ends = self.interval.low, self.interval.high
        if any(2 * abs(a - b) > self.step for a, b in zip(points, ends, strict=True)):
            raise ValueError(f"a grid ends half a step from its declared range at most, got {self}")

    @property
    def coarse(self) -> bool:
        """Whether it has fewer steps than 12 bits: rounding to it may stop an attack by itself."""
        return self.high - self.low < FINE

    @classmethod
    def of(cls, low: float, high: float, bits: int = 8) -> "Grid":
        """The grid of ``2**bits`` points, or one more, that spans `low` to `high`.

        Raises
        ------
        InputError
            If the range is empty or does not contain zero (zero padding must lie on the grid).
        """
        return cls.over(Interval.of(low, high), bits)

    @classmethod
    def over(cls, declared: Interval, bits: int = 8) -> "Grid":
        """As `of`, over a declared range."""
        if not declared.low <= 0 <= declared.high:
            raise InputError(
                f"the input range {declared} does not contain zero, which padding needs; shift the data"
            )
        if not 1 <= bits <= 24:
            raise InputError(f"an input grid of {bits} bits: choose 1 to 24")
        step = declared.width.limit_denominator(10**6) / (2**bits - 1)
        half = Fraction(1, 2)  # of a step: half a one goes outwards
        low = math.ceil(declared.low / step - half)
        high = math.floor(declared.high / step + half)
        exact = (low * step, high * step) == (declared.low, declared.high)
        return cls(step, low, high, None if exact else declared)

    @property
    def interval(self) -> Interval:
        """The real values that inputs were declared to have."""
        return self.declared or Interval(self.low * self.step, self.high * self.step)

    def to_integers(self, x: Tensor) -> Tensor:
        """The nearest grid point of every value, half up, as int64.

        What rounding in 32 bits may have put just below a half counts as half, so that it does not
        decide where bytes on a symmetric range go. Up to one step outside, the last point is nearest.

        Raises
        ------
        InputError
            If a value is no number, or lies more than a step outside the declared range; it names
            the first such sample.
        """
        inside = self.interval.clamped(x, float(self.step)).to(torch.float64)
        lost = min(float(self.interval.width / self.step) * _ROUNDING, 0.25)
        points = torch.floor(inside * float(1 / self.step) + (0.5 + lost))
        return points.clamp(self.low, self.high).to(torch.int64)

    def to_values(self, points: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """The real values of grid points."""
        return (points.to(torch.float64) * float(self.step)).to(dtype)
