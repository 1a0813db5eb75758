"""Choose the real value of one level of an activation from samples of it."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from spikemorph.graph import InputError


class Calibrator(Protocol):
    """Chooses a unit; frozen, without state."""

    def unit(self, values: Tensor, smin: int, smax: int) -> float:
        """The real value of one level, for levels `smin` to `smax`; `values` is (n,), not all zero."""
        ...


@dataclass(frozen=True)
class Max:
    """The largest value seen is the top level: nothing is clipped."""

    def unit(self, values: Tensor, smin: int, smax: int) -> float:
        return _span(float(values.min()), float(values.max()), smin, smax)


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

    def unit(self, values: Tensor, smin: int, smax: int) -> float:
        ordered = values[values != 0].sort().values
        top = ordered[min(len(ordered) - 1, int(self.share * len(ordered)))]
        bottom = ordered[int((1 - self.share) * len(ordered))]
        found = _span(float(bottom), float(top), smin, smax)
        return found or Max().unit(values, smin, smax)  # no value there on the side of the levels


@dataclass(frozen=True)
class MSE:
    """The unit with the least mean squared rounding and clipping error among `candidates`."""

    candidates: int = 100

    def unit(self, values: Tensor, smin: int, smax: int) -> float:
        widest = Max().unit(values, smin, smax)
        shares = torch.linspace(1 / self.candidates, 1, self.candidates, dtype=torch.float64)
        values = values.double()
        errors = []
        for unit in (shares * widest).tolist():
            levels = torch.floor(values / unit + 0.5).clamp(smin, smax)
            errors.append(float((levels * unit - values).square().mean()))
        return float(shares[int(torch.tensor(errors).argmin())]) * widest


def _span(low: float, high: float, smin: int, smax: int) -> float:
    """The least unit whose levels reach from `low` to `high`."""
    return max(high / smax if smax else 0.0, low / smin if smin else 0.0)
