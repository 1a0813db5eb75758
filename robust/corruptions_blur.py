"""Blur of a lens and of movement: defocus, frosted glass, motion, zoom."""

import math

import torch
from torch import Tensor

from .corruption_filters import enlarged, gaussian, smear, spread
from .corruption_table import at, corruptions, scale_of
from .draws import Draws

_GLASS = 0.25  # pixels of a 32 x 32 image


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
    """A share c of the pixels shows one at most d away, between two slight Gaussian blurs.

    Published severities differ in blur and rounds of exchanges, so that the third does less damage
    than the first; here they differ in the share.
    """
    share, scale = at(severity, (0.2, 0.4, 0.6, 0.8, 1.0)), scale_of(x)
    rows, columns = (torch.arange(size, device=x.device) for size in x.shape[2:])
    reach = round(scale)
    by = draws.fork("neighbour").below(2 * reach + 1, 2, *x.shape[2:]).to(x.device) - reach
    by = by * (draws.fork("chosen").uniform(1, *x.shape[2:]).to(x.device) < share)
    down = (rows[:, None] + by[:, 0]).clamp(0, len(rows) - 1)
    right = (columns + by[:, 1]).clamp(0, len(columns) - 1)
    cells = (down * len(columns) + right).flatten(1)[:, None].expand(-1, x.shape[1], -1)
    seen = gaussian(x, _GLASS * scale).flatten(2).gather(2, cells).reshape(x.shape)
    return gaussian(seen, _GLASS * scale)


@corruptions("motion blur")
def motion_blur(x: Tensor, severity: int, draws: Draws) -> Tensor:
    """Along a line within 45 degrees of a row, to one side; the weights fall as a Gaussian's."""
    radius, sigma = at(severity, ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)))
    scale = scale_of(x)
    angle = (2 * draws.uniform(1)[:, 0].to(x) - 1) * math.pi / 4
    return smear(x, round((2 * radius + 1) * scale), sigma * scale, angle)


@corruptions("zoom blur")
def zoom_blur(x: Tensor, severity: int, draws: Draws) -> Tensor:
    """The mean of the image and of its centre enlarged by 1, 1.01, 1.02, ..."""
    del draws
    steps = at(severity, (6, 11, 16, 21, 26))
    total = x.clone()
    for step in range(steps):
        total = total + enlarged(x, 1 + step / 100)
    return total / (steps + 1)
