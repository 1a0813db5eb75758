"""Choose the real value of one level of an activation, channel by channel, from samples of it."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from spikemorph.graph import InputError

_ROOM = 2**20  # numbers of histograms that are held at a time


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
    """The unit with the least mean squared rounding and clipping error among `candidates`.

    The levels of all candidates change at whole multiples of one distance, so one histogram of a row
    tells the error at every candidate, but for its rounding. Candidates that this leaves in doubt are
    measured value by value: the choice is that of measuring all.
    """

    candidates: int = 100

    def units(self, rows: Tensor, smin: int, smax: int) -> Tensor:
        widest = Max().units(rows, smin, smax)
        shares = torch.linspace(1 / self.candidates, 1, self.candidates, dtype=torch.float64)
        tried = shares * widest[:, None]
        doubted = torch.ones_like(tried, dtype=torch.bool)
        if smax - smin < rows.shape[1]:  # else no histogram is shorter than the values
            together = max(1, _ROOM // (2 * self.candidates * (smax - smin)))
            parts = zip(rows.split(together), tried.split(together), strict=True)
            doubted = torch.cat([_in_doubt(*part, smin, smax) for part in parts])
        errors = torch.where(doubted, 0.0, torch.inf).double()
        doubted &= (doubted.sum(1) > 1)[:, None]
        for k in range(self.candidates):
            (some,) = doubted[:, k].nonzero(as_tuple=True)
            if len(some):
                errors[some, k] = _mean_square(rows[some].double(), tried[some, k], smin, smax)
        return tried.gather(1, errors.argmin(1, keepdim=True))[:, 0]


def _mean_square(rows: Tensor, unit: Tensor, smin: int, smax: int) -> Tensor:
    """(row,) the mean squared error of rows on levels that are worth `unit`, (row,)."""
    levels = torch.floor(rows / unit[:, None] + 0.5).clamp(smin, smax)
    return (levels * unit[:, None] - rows).square().mean(1)


def _in_doubt(rows: Tensor, units: Tensor, smin: int, smax: int) -> Tensor:
    """(row, candidate) whether a unit may be the one with the least `_mean_square`.

    Unit j of N is ``j / N`` of the last. Level k starts at ``(k - 1/2) u``, which is (2 k - 1) j of the
    places that are ``1 / (2 N)`` of the last unit. With n_k values above that start and T_k their sum,
    the sum of squares of ``level u - x`` is ``u^2 sum(level^2) - 2 u sum(level x) + sum(x^2)``, where
    sum(level^2) is ``n smin^2 + sum((2 k - 1) n_k)`` and sum(level x) is ``smin sum(x) + sum(T_k)``. A
    sum of n terms in any order is within ``n 2^-53`` of the sum of their absolute values.
    """
    rows, (count, candidates) = rows.double(), (rows.shape[1], units.shape[1])
    odd = 2 * torch.arange(smin + 1, smax + 1) - 1
    starts = odd * torch.arange(1, candidates + 1)[:, None]
    first, last = int(starts.min()) - 1, int(starts.max())
    places = torch.floor(rows / (units[:, -1:] / (2 * candidates))).nan_to_num()
    places = places.clamp(first, last).to(torch.int64) - first
    empty = rows.new_zeros(len(rows), last - first + 1)
    counts, sums = (
        empty.scatter_add(1, places, values).flip(1).cumsum(1).flip(1)[:, starts - first]
        for values in (torch.ones_like(rows), rows)
    )
    squares = rows.square().sum(1, keepdim=True)
    levels = count * smin**2 + counts @ odd.double()
    products = smin * rows.sum(1, keepdim=True) + sums.sum(2)
    error = units.square() * levels - 2 * units * products + squares
    size = units * (smax - smin) * rows.abs().sum(1, keepdim=True)
    rounding = 2**-50 * (count + last - first) * (units.square() * levels + size + squares)
    least = (error + rounding).amin(1, keepdim=True)
    return ~(error - rounding > least)  # also where they are no numbers


def _reaching(low: Tensor, high: Tensor, smin: int, smax: int) -> Tensor:
    """The least units whose levels reach from `low` to `high`, float64; 0 where no level is needed."""
    sides = [end.double() / level for end, level in ((low, smin), (high, smax)) if level]
    return torch.stack(sides).amax(0).clamp(min=0)
