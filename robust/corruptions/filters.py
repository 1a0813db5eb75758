"""Filters of images whose borders are continued: Gaussian blur, and blur along a line."""

import math

import torch
from torch import Tensor
from torch.nn import functional


def gaussian(x: Tensor, sigma: float, radius: int | None = None) -> Tensor:
    """Blur (sample, C, H, W) by a Gaussian, cut off at `radius` pixels (four sigma if left out)."""
    if sigma <= 0:
        return x
    reach = max(1, math.ceil(4 * sigma)) if radius is None else radius
    taps = torch.arange(-reach, reach + 1, device=x.device, dtype=torch.float64)
    weights = (-(taps**2) / (2 * sigma**2)).exp()
    weights = (weights / weights.sum()).to(x)
    for axis in (2, 3):
        x = _along(x, weights, axis)
    return x


def spread(x: Tensor, kernel: Tensor) -> Tensor:
    """Every channel of (sample, C, H, W) correlated with one (odd, odd) kernel."""
    high, wide = (size // 2 for size in kernel.shape)
    rows = functional.pad(x, (wide, wide, high, high), mode="replicate").flatten(0, 1)[:, None]
    return functional.conv2d(rows, kernel.to(x)[None, None])[:, 0].unflatten(0, x.shape[:2])


def smear(x: Tensor, length: int, sigma: float, angle: Tensor) -> Tensor:
    """Blur along a line, to one side, the weights falling as a Gaussian does.

    Parameters
    ----------
    x : Tensor
        (sample, C, H, W).
    length : int
        Of the line, in pixels.
    sigma : float
        Of the Gaussian, in pixels.
    angle : Tensor
        (sample,) the direction of the line, in radians.
    """
    weights = torch.tensor([math.exp(-(k**2) / (2 * sigma**2)) for k in range(length)])
    weights = weights / weights.sum()
    total = torch.zeros_like(x)
    for step, weight in enumerate(weights.tolist()):
        down, right = ((step * way).round().long() for way in (angle.sin(), angle.cos()))
        total = total + weight * shifted(x, down, right)
    return total


def shifted(x: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Pixel (i, j) of the result is pixel (i + down, j + right), per sample, borders continued."""
    rows, columns = x.shape[2:]
    i = (torch.arange(rows, device=x.device) + down[:, None]).clamp(0, rows - 1)
    j = (torch.arange(columns, device=x.device) + right[:, None]).clamp(0, columns - 1)
    cells = (i[:, :, None] * columns + j[:, None]).flatten(1)[:, None]
    return x.flatten(2).gather(2, cells.expand(-1, x.shape[1], -1)).reshape(x.shape)


def enlarged(x: Tensor, factor: float) -> Tensor:
    """The centre, `factor` times as large, cut to the same size; linear between pixels."""
    return sampled(x, *(at / factor for at in centred(x)))


def sampled(x: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """The image read at places between pixels, linearly; what lies outside is mirrored.

    `down` and `right` are in pixels from the image's middle: (rows, columns), or one grid for each
    sample.
    """
    rows, columns = x.shape[2:]
    grid = torch.stack([2 * right / columns, 2 * down / rows], dim=-1).to(x)
    grid = grid.expand(len(x), rows, columns, 2)
    return functional.grid_sample(
        x, grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )


def centred(x: Tensor) -> tuple[Tensor, Tensor]:
    """(rows, columns) how far down, and to the right of, the middle every pixel lies."""
    rows, columns = (torch.arange(n, device=x.device) - (n - 1) / 2 for n in x.shape[2:])
    down, right = torch.meshgrid(rows, columns, indexing="ij")
    return down, right


def _along(x: Tensor, weights: Tensor, axis: int) -> Tensor:
    """Correlated with weights along rows (3) or columns (2)."""
    kernel = weights[:, None] if axis == 2 else weights[None]
    return spread(x, kernel)
