"""Exact levels of whole sums held in floats, and gradients past roundings."""

from typing import Any

import torch
from torch import Tensor

from spikemorph.layers.carriers import DOUBLE
from spikemorph.layers.ladder import Line, along_channels


class _Through(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, exact: Tensor, soft: Tensor) -> Tensor:
        ctx.dtype = soft.dtype
        return exact.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor]:
        return None, gradients[0].to(ctx.dtype)


def through(exact: Tensor, soft: Tensor) -> Tensor:
    """The value and number type of `exact`, bit for bit, with the gradient of `soft`.

    A straight-through estimator (Bengio, Leonard and Courville, 2013); both have one shape.
    """
    result: Tensor = _Through.apply(exact.detach(), soft)  # type: ignore[no-untyped-call]
    return result


def position(line: Line, sums: Tensor) -> Tensor:
    """``(C scale + start) / threshold`` in float64: its floor, clipped, is the level of the sums.

    The floor is exact where `fits` holds: then ``a = C scale + start`` and ``b = threshold`` are
    exact, a quotient that is not whole is at least ``1/b`` away from every whole number, and rounding
    moves it by at most ``2**-53 |a| / b``, which is less.
    """
    scale, start, threshold = (
        along_channels(t, sums).double() for t in (line.scale, line.start, line.threshold)
    )
    return (sums.double() * scale + start) / threshold


def fits(line: Line, bound: float) -> bool:
    """Whether `position` has the exact floor for all sums of at most this absolute value."""
    most = bound * float(line.scale.max()) + float(line.start.abs().max())
    return most + float(line.threshold.max()) < DOUBLE
