"""How input integers enter over time: all at once, in pieces, by bits, or again at every step."""

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from spikemorph.graph import InputError
from spikemorph.graph.fields import Between
from spikemorph.graph.grid import Grid
from spikemorph.graph.records import Record

Pieces = Annotated[int, Between(1, 2**16)]  # steps: what is stored may not run for ever


@dataclass(frozen=True)
class Coding(Record):
    """A way to inject the integers x; what is injected over all steps sums to x exactly."""

    def lasts(self, grid: Grid) -> int | None:
        """The last step at which something is injected; None if it never stops."""
        raise NotImplementedError

    def at(self, x: Tensor, step: int, grid: Grid) -> Tensor:
        """What is injected at `step` (from 1 on); int64, shaped like `x`."""
        raise NotImplementedError


@dataclass(frozen=True)
class AnalogFirstStep(Coding):
    """All of x at step 1: the fastest, as a first layer that computes once."""

    def lasts(self, grid: Grid) -> int | None:
        return 1

    def at(self, x: Tensor, step: int, grid: Grid) -> Tensor:
        return x if step == 1 else torch.zeros_like(x)


@dataclass(frozen=True)
class Repeated(Coding):
    """x in equal pieces over some steps; cumulative floors make the pieces sum to x."""

    pieces: Pieces = 8

    def __post_init__(self) -> None:
        if self.pieces < 1:
            raise InputError(f"an input in {self.pieces} pieces: choose 1 or more")

    def lasts(self, grid: Grid) -> int | None:
        return self.pieces

    def at(self, x: Tensor, step: int, grid: Grid) -> Tensor:
        if step > self.pieces:
            return torch.zeros_like(x)
        now, before = (_floor(x * k, self.pieces) for k in (step, step - 1))
        return now - before


@dataclass(frozen=True)
class BitPlane(Coding):
    """The binary digits of x with its sign, the largest first."""

    def lasts(self, grid: Grid) -> int | None:
        return max(-grid.low, grid.high).bit_length()

    def at(self, x: Tensor, step: int, grid: Grid) -> Tensor:
        digits = self.lasts(grid)
        assert digits is not None
        if step > digits:
            return torch.zeros_like(x)
        return x.sign() * (x.abs() & (1 << (digits - step)))


@dataclass(frozen=True)
class Thermometer(Coding):
    """x as a run of equal events that stops when x is reached; the last event is the remainder."""

    pieces: Pieces = 8

    def __post_init__(self) -> None:
        if self.pieces < 1:
            raise InputError(f"a thermometer of {self.pieces} steps: choose 1 or more")

    def lasts(self, grid: Grid) -> int | None:
        return self.pieces

    def at(self, x: Tensor, step: int, grid: Grid) -> Tensor:
        event = -(-max(-grid.low, grid.high) // self.pieces)
        return x.sign() * (x.abs() - (step - 1) * event).clamp(0, event)


@dataclass(frozen=True)
class Constant(Coding):
    """x at every step, and every bias too: rate coding. Outputs are read per step; never exact."""

    def lasts(self, grid: Grid) -> int | None:
        return None

    def at(self, x: Tensor, step: int, grid: Grid) -> Tensor:
        return x


def _floor(x: Tensor, by: int) -> Tensor:
    return torch.div(x, by, rounding_mode="floor")
