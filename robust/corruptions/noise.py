"""Noise of a camera: thermal, photon counts, defective pixels.

Parameters of all corruptions are those published with CIFAR-10-C (Hendrycks and Dietterich,
ICLR 2019), for severities 1 to 5, except where it is said.
"""

import torch
from torch import Tensor

from ..draws import Draws
from .table import at, corruptions


@corruptions("gaussian noise")
def gaussian_noise(x: Tensor, severity: int, draws: Draws) -> Tensor:
    """x + c n, n standard normal."""
    return x + at(severity, (0.04, 0.06, 0.08, 0.09, 0.10)) * draws.normal(*x.shape[1:]).to(x)


@corruptions("shot noise")
def shot_noise(x: Tensor, severity: int, draws: Draws) -> Tensor:
    """Poisson(c x) / c: c photons where the image is white."""
    photons = at(severity, (500, 250, 100, 75, 50))
    counts = []
    for image, seed in zip(x.cpu(), draws.seeds.tolist(), strict=True):
        counts.append(torch.poisson(image * photons, torch.Generator().manual_seed(seed)))
    return torch.stack(counts).to(x) / photons if counts else x


@corruptions("impulse noise")
def impulse_noise(x: Tensor, severity: int, draws: Draws) -> Tensor:
    """A share c of all values is 0 or 1."""
    share = at(severity, (0.01, 0.02, 0.03, 0.05, 0.07))
    drawn = draws.uniform(*x.shape[1:]).to(x)
    salt = draws.fork("salt").signs(*x.shape[1:]).to(x) > 0
    return torch.where(drawn < share, salt.to(x), x)
