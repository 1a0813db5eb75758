"""Exact levels of whole sums held in floats, and gradients past roundings."""

from typing import Any

import torch
from torch import Tensor

from spikemorph.layers.carriers import DOUBLE, SINGLE
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


def position(line: Line, sums: Tensor, kind: torch.dtype = torch.float64) -> Tensor:
    """``(C scale + start) / threshold`` in `kind`: its floor, clipped, is the level of the sums.

    The floor is exact in the kind that `position_kind` names: there ``a = C scale + start`` and
    ``b = threshold`` are exact, a quotient that is not whole is at least ``1/b`` away from every whole
    number, and rounding moves it by at most ``2**-53 |a| / b`` (``2**-24`` in float32), which is less.
    """
    scale, start, threshold = (
        along_channels(t, sums).to(kind) for t in (line.scale, line.start, line.threshold)
    )
    return (sums.to(kind) * scale + start) / threshold


def position_kind(line: Line, bound: float) -> torch.dtype | None:
    """The float in which `position` has the exact floor for sums of at most this absolute value.

    None where no float has.
    """
    most = bound * float(line.scale.max()) + float(line.start.abs().max())
    most += float(line.threshold.max())
    if most < DOUBLE:
        return torch.float32 if most < SINGLE else torch.float64
    return None
