"""The integer grid that input values lie on."""

import math
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from .errors import InputError
from .records import Record


@dataclass(frozen=True)
class Grid(Record):
    """Real value = step * integer, for integers from `low` to `high`; zero is on the grid.

    >>> Grid.of(0.0, 1.0, bits=8)
    Grid(step=Fraction(1, 255), low=0, high=255)
    """

    step: Fraction
    low: int
    high: int

    def __post_init__(self) -> None:
        if self.step <= 0 or not self.low <= 0 <= self.high or self.low == self.high:
            raise ValueError(f"a grid needs a positive step and zero inside its range, got {self}")

    @classmethod
    def of(cls, low: float, high: float, bits: int = 8) -> "Grid":
        """The grid of ``2**bits`` points, or one more, that spans `low` to `high`.

        Raises
        ------
        InputError
            If the range is empty or does not contain zero (zero padding must lie on the grid).
        """
        if not low <= 0 <= high or not low < high:
            raise InputError(f"the input range {low},{high} must contain zero and not be empty")
        if not 1 <= bits <= 24:
            raise InputError(f"an input grid of {bits} bits: choose 1 to 24")
        if high - low < 1e-6:
            raise InputError(f"the input range {low},{high} is too narrow: give 1e-6 or more")
        step = (Fraction(high) - Fraction(low)).limit_denominator(10**6) / (2**bits - 1)
        half = Fraction(1, 2)  # of a step: half a one goes outwards
        return cls(
            step,
            math.ceil(Fraction(low) / step - half),
            math.floor(Fraction(high) / step + half),
        )

    def to_integers(self, x: Tensor) -> Tensor:
        """The nearest grid point of every value, half up, as int64.

        Raises
        ------
        InputError
            If a value is not finite, or lies more than half a step outside the grid; it names the
            first such sample.
        """
        exact = x.to(torch.float64) * float(1 / self.step)
        points = torch.floor(exact + 0.5)
        bad = ~torch.isfinite(exact) | (points < self.low) | (points > self.high)
        if bool(bad.any()):
            index = tuple(int(i) for i in bad.nonzero()[0])
            low, high = float(self.low * self.step), float(self.high * self.step)
            raise InputError(
                f"sample {index[0]}, element {index[1:]}: {float(x[index]):g} is outside the "
                f"declared input range {low:g}..{high:g}; scale the data or give --input-range"
            )
        return points.to(torch.int64)

    def to_values(self, points: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """The real values of grid points."""
        return (points.to(torch.float64) * float(self.step)).to(dtype)
