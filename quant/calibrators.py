"""Choose the real value of one level of an activation, channel by channel, from samples of it."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from spikemorph.graph import InputError


class Calibrator(Protocol):
    """Chooses units; frozen, without state.

    A row that is multiplied by a positive number gets a unit that is, too: scales decide nothing.
    """

    def units(self, rows: Tensor, smin: int, smax: int) -> Tensor:
        """(row,) float64: the real value of one of the levels `smin` to `smax`, for every row.

        `rows` is (row, n); none is all zero.
        """
        ...


@dataclass(frozen=True)
class Max:
    """The largest value seen is the top level: nothing on the side of the levels is clipped."""

    def units(self, rows: Tensor, smin: int, smax: int) -> Tensor:
        low, high = rows.amin(1).double(), rows.amax(1).double()
        unit = _reaching(low, high, smin, smax)
        return torch.where(unit > 0, unit, torch.maximum(-low, high) / (smax - smin))


@dataclass(frozen=True)
class Percentile:
    """A quantile of the values that are not zero is the top level; the rest is clipped.

    Raises
    ------
    InputError
        If the share is not above 0.5 and at most 1.
    """

    share: float = 0.999

    def __post_init__(self) -> None:
        if not 0.5 < self.share <= 1:
            raise InputError(
                f"a percentile of {100 * self.share:g} %: choose above 50 and up to 100"
            )

    def units(self, rows: Tensor, smin: int, smax: int) -> Tensor:
        ends = torch.stack([self._ends(row[row != 0].sort().values) for row in rows], 1)
        unit = _reaching(ends[0], ends[1], smin, smax)
        return torch.where(unit > 0, unit, Max().units(rows, smin, smax))

    def _ends(self, ordered: Tensor) -> Tensor:
        last = len(ordered) - 1
        bottom, top = int((1 - self.share) * len(ordered)), int(self.share * len(ordered))
        return ordered[torch.tensor([bottom, min(last, top)])]


@dataclass(frozen=True)
class MSE:
    """The unit with the least mean squared rounding and clipping error among `candidates`."""

    candidates: int = 100

    def units(self, rows: Tensor, smin: int, smax: int) -> Tensor:
        widest = Max().units(rows, smin, smax)
        shares = torch.linspace(1 / self.candidates, 1, self.candidates, dtype=torch.float64)
        rows, errors = rows.double(), []
        for share in shares:
            unit = (share * widest)[:, None]
            levels = torch.floor(rows / unit + 0.5).clamp(smin, smax)
            errors.append((levels * unit - rows).square().mean(1))
        return shares[torch.stack(errors).argmin(0)] * widest


def _reaching(low: Tensor, high: Tensor, smin: int, smax: int) -> Tensor:
    """The least units whose levels reach from `low` to `high`, float64; 0 where no level is needed."""
    sides = [end.double() / level for end, level in ((low, smin), (high, smax)) if level]
    return torch.stack(sides).amax(0).clamp(min=0)
