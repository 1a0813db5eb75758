"""Weather: snow, frost, fog, and brightness."""

import math

import torch
from torch import Tensor

from ..draws import Draws
from ..threat import wide
from .filters import enlarged, smear
from .table import at, corruptions

_LUMA = (0.299, 0.587, 0.114)  # what red, green and blue add to grey (ITU-R BT.601)


@corruptions("snow")
def snow(x: Tensor, severity: int, draws: Draws) -> Tensor:
    """Flakes of an enlarged noise above a threshold, smeared as they fall, over a whitened image.

    The flakes are added twice, once turned by half a circle. The third severity's threshold is high:
    it does no more damage than the second.
    """
    rows = (
        (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
        (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    )
    mean, deviation, zoom, threshold, radius, sigma, kept = at(severity, rows)
    scale = min(x.shape[2:]) / 32
    layer = mean + deviation * draws.normal(1, *x.shape[2:]).to(x)
    layer = enlarged(layer, max(1.0, zoom * scale))
    layer = torch.where(layer < threshold, 0, layer).clamp(0, 1)
    turned = draws.fork("wind").uniform(1)[:, 0].to(x)
    angle = -math.pi * (0.75 - 0.5 * turned)  # 45 to 135 degrees against the rows
    layer = smear(layer, max(1, round((2 * radius + 1) * scale)), sigma * scale, angle)
    white = torch.maximum(x, 1.5 * _grey(x) + 0.5)
    return kept * x + (1 - kept) * white + layer + layer.flip(2, 3)


@corruptions("frost")
def frost(x: Tensor, severity: int, draws: Draws) -> Tensor:
    """x + c t (ice - x), with t between 0 and 1 how thick the ice is at a pixel.

    The benchmark adds pieces of six photographs. Here ice is drawn: ridges of fractal noise, bluish
    white, thickest where it is cold. So neither c nor results are comparable with its frost.
    """
    cold = _fractal(x, 2.0, draws.fork("cold"))
    ridges = 1 - (2 * _fractal(x, 1.6, draws.fork("ridges")) - 1).abs()
    thick = (0.5 * cold + 0.5 * ridges**4).clamp(0, 1)
    ice = torch.tensor((0.92, 0.97, 1.0) if x.shape[1] == 3 else (0.97,)).to(x)[:, None, None]
    return x + at(severity, (0.3, 0.45, 0.6, 0.75, 0.9)) * thick * (ice - x)


@corruptions("fog")
def fog(x: Tensor, severity: int, draws: Draws) -> Tensor:
    """(x + a f) max(x) / (max(x) + a), with f a fractal between 0 and 1.

    Its displacements are drawn within w^2, and w is divided by the published decay a round.
    """
    amount, decay = at(severity, ((0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75)))
    brightest = wide(x.flatten(1).amax(1), x)
    return (x + amount * _fractal(x, decay**2, draws)) * brightest / (brightest + amount)


@corruptions("brightness")
def brightness(x: Tensor, severity: int, draws: Draws) -> Tensor:
    """The value of hue, saturation and value is raised by c; black becomes grey."""
    del draws
    value = x.amax(1, keepdim=True)
    raised = (value + at(severity, (0.05, 0.1, 0.15, 0.2, 0.3))).clamp_max(1)
    return torch.where(value > 0, x * raised / value.clamp_min(1e-12), raised)


def _grey(x: Tensor) -> Tensor:
    if x.shape[1] == 1:
        return x
    return (x * torch.tensor(_LUMA).to(x)[:, None, None]).sum(1, keepdim=True)


def _fractal(x: Tensor, decay: float, draws: Draws) -> Tensor:
    """(sample, 1, H, W) between 0 and 1: midpoint displacement on a torus (the diamond-square way).

    Corners are known first. Each round finds the middles of all squares, then of all edges, as the
    mean of four neighbours and a uniform displacement; displacements shrink by `decay` a round.
    """
    side = 2 ** max(1, math.ceil(math.log2(max(x.shape[2:]))))
    heights = torch.zeros(len(x), side, side, device=x.device)
    step, size = side, 1.0
    while step >= 2:
        half = step // 2

        def displaced(name: str, around: Tensor, size: float = size, step: int = step) -> Tensor:
            stream = draws.fork(f"{name} {step}")
            return around + size * (2 * stream.uniform(*around.shape[1:]).to(x) - 1)

        corners = heights[:, ::step, ::step]
        rows = corners + corners.roll(-1, 1)
        squares = displaced("squares", (rows + rows.roll(-1, 2)) / 4)
        heights[:, half::step, half::step] = squares
        beside = corners + corners.roll(-1, 2) + squares + squares.roll(1, 1)
        heights[:, ::step, half::step] = displaced("rows", beside / 4)
        below = corners + corners.roll(-1, 1) + squares + squares.roll(1, 2)
        heights[:, half::step, ::step] = displaced("columns", below / 4)
        step, size = half, size / decay
    heights = heights - heights.amin((1, 2), keepdim=True)
    heights = heights / heights.amax((1, 2), keepdim=True).clamp_min(1e-12)
    return heights[:, None, : x.shape[2], : x.shape[3]].to(x)
