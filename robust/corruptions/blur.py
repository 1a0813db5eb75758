"""Blur of a lens and of movement: defocus, frosted glass, motion, zoom."""

import math

import torch
from torch import Tensor

from ..draws import Draws
from .filters import enlarged, gaussian, smear, spread
from .table import at, corruptions, scale_of


@corruptions("defocus blur")
def defocus_blur(x: Tensor, severity: int, draws: Draws) -> Tensor:
    """A disk of radius r, its edge smoothed by a Gaussian of one pixel's reach."""
    del draws
    radius, sigma = at(severity, ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)))
    scale = scale_of(x)
    reach = math.floor(radius * scale) + round(scale)
    taps = torch.arange(-reach, reach + 1, device=x.device)
    disk = (taps[:, None] ** 2 + taps[None] ** 2 <= (radius * scale) ** 2).to(x)[None, None]
    kernel = gaussian(disk / disk.sum(), sigma * scale, round(scale))[0, 0]
    return spread(x, kernel / kernel.sum())


@corruptions("glass blur")
def glass_blur(x: Tensor, severity: int, draws: Draws) -> Tensor:
    """Every pixel shows one up or left of it, in one or two rounds, between two Gaussian blurs.

    What the published loop does: it means to exchange neighbours from the last pixel to the first,
    but each exchange is half undone, so that every pixel takes over an earlier one. The first rows
    and columns stay. Two rounds of a slight blur do less damage than one of a strong blur: the
    severities are not in order.
    """
    sigma, rounds = at(severity, ((0.05, 1), (0.25, 1), (0.4, 1), (0.25, 2), (0.4, 2)))
    scale = scale_of(x)
    x = gaussian(x, sigma * scale)
    for number in range(rounds):
        x = _taken_over(x, round(scale), draws.fork(f"round {number}"))
    return gaussian(x, sigma * scale)


def _taken_over(x: Tensor, reach: int, draws: Draws) -> Tensor:
    """Pixel (i, j) is pixel (i + a, j + b), with a and b drawn from -reach .. reach - 1."""
    rows, columns = (torch.arange(size, device=x.device) for size in x.shape[2:])
    by = draws.below(2 * reach, 2, *x.shape[2:]).to(x.device) - reach
    inside = (rows > reach)[:, None] & (columns > reach)
    by = torch.where(inside, by, 0)
    down = (rows[:, None] + by[:, 0]).clamp(0, len(rows) - 1)
    right = (columns + by[:, 1]).clamp(0, len(columns) - 1)
    cells = (down * len(columns) + right).flatten(1)[:, None].expand(-1, x.shape[1], -1)
    return x.flatten(2).gather(2, cells).reshape(x.shape)


@corruptions("motion blur")
def motion_blur(x: Tensor, severity: int, draws: Draws) -> Tensor:
    """Along a line within 45 degrees of a row, to one side; the weights fall as a Gaussian's."""
    radius, sigma = at(severity, ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)))
    scale = scale_of(x)
    angle = (2 * draws.uniform(1)[:, 0].to(x) - 1) * math.pi / 4
    return smear(x, round((2 * radius + 1) * scale), sigma * scale, angle)


@corruptions("zoom blur")
def zoom_blur(x: Tensor, severity: int, draws: Draws) -> Tensor:
    """The mean of the image and of its centre enlarged by 1, 1.01, 1.02, ...

    The published ranges end at 1.05, 1.1, 1.15, 1.2 and 1.25, but rounding of floats puts one more
    factor into the first two: theirs are the counts below.
    """
    del draws
    steps = at(severity, (7, 12, 16, 21, 26))
    total = x.clone()
    for step in range(steps):
        total = total + enlarged(x, 1 + step / 100)
    return total / (steps + 1)
