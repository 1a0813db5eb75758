"""The calibrator of least squared error chooses as measuring every candidate value by value does."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from spikemorph.quant import MSE, Max

ENDS = [(0, 15), (0, 1), (-5, 10), (-3, 0), (0, 255), (-2000, 2095)]


def by_hand(rows: Tensor, smin: int, smax: int, candidates: int = 100) -> Tensor:
    """Every value rounded at every candidate."""
    widest = Max().units(rows, smin, smax)
    shares = torch.linspace(1 / candidates, 1, candidates, dtype=torch.float64)
    rows, errors = rows.double(), []
    for share in shares:
        unit = (share * widest)[:, None]
        levels = torch.floor(rows / unit + 0.5).clamp(smin, smax)
        errors.append((levels * unit - rows).square().mean(1))
    return shares[torch.stack(errors).argmin(0)] * widest


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def spread(*shape: int) -> Tensor:
    """Magnitudes from 1e-18 to 1e18 in one row."""
    return normal(*shape, seed=1).sign() * 10 ** (18 * normal(*shape, seed=2).clamp(-1, 1))


def far_apart() -> Tensor:
    """One value a million million times the others: sums of squares forget these."""
    rows = normal(6, 4000, seed=3)
    rows[:, 7] = torch.tensor([1e12, -1e12, 1e6, -1e6, 1e3, 50.0])
    return rows


ROWS: dict[str, Callable[[], Tensor]] = {
    "normal": lambda: normal(8, 3000),
    "rectified": lambda: normal(8, 3000).relu() * 10 ** normal(8, 1),
    "few values": lambda: torch.round(4 * normal(8, 2000)) / 4,
    "one value each": lambda: normal(8, 1).expand(8, 500).contiguous(),
    "on and off": lambda: (normal(8, 700) > 1).float() + torch.eye(8, 700),
    "whole numbers": lambda: torch.arange(64.0).expand(3, 64).contiguous(),
    "spread": lambda: spread(8, 2000),
    "far apart": far_apart,
    "subnormal": lambda: normal(4, 300) * 1e-42,
    "largest": lambda: normal(4, 300).clamp(-1, 1) * 3e38,
    "doubles": lambda: normal(4, 300).double() * 1e200,
    "three values": lambda: normal(5, 3),
    "one row": lambda: normal(1, 30_000).exp(),
}


@pytest.mark.parametrize("name", ROWS)
def test_the_unit_is_that_of_measuring_every_value(name: str) -> None:
    rows = ROWS[name]()
    for smin, smax in ENDS:
        short = rows[:2, :2500] if smax > 15 else rows
        assert torch.equal(MSE().units(short, smin, smax), by_hand(short, smin, smax)), (smin, smax)


@pytest.mark.parametrize(("smin", "smax"), [(0, 1), (-1, 1), (0, 3), (-2, 2)])
def test_equally_good_candidates_are_told_apart_as_by_hand(smin: int, smax: int) -> None:
    """A few small whole numbers: many candidates have one error, apart from how it was rounded."""
    draws = torch.Generator().manual_seed(6)
    for candidates in (10, 20, 100):
        rows = torch.randint(6 * min(smin, 0), 7, (2000, 8), generator=draws).float()
        rows = rows[(rows != 0).any(1)]
        found = MSE(candidates).units(rows, smin, smax)
        assert torch.equal(found, by_hand(rows, smin, smax, candidates))
