"""Whole numbers carried in floating point without ever rounding, and gradients past roundings.

Floats hold and add whole numbers exactly as long as no sum of absolute values passes ``2**24``
(float32) or ``2**53`` (float64). Bounds prove that; a probe sees whether this machine's product keeps
to it (Winograd transforms and TF32 do not).
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from spikemorph.graph import GraphError
from spikemorph.layers.convolution import Convolution
from spikemorph.layers.ladder import Line, along_channels
from spikemorph.layers.linear import Linear

SINGLE, DOUBLE = 2.0**24, 2.0**53
Key = tuple[Any, ...]


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


def fits(line: Line, bound: float) -> bool:
    """Whether `position` has the exact floor in float64."""
    return position_kind(line, bound) is not None


def carrier(bound: float, name: str) -> torch.dtype:
    """The number type that holds whole numbers up to `bound`, at node `name`.

    Raises
    ------
    GraphError
        If no float does.
    """
    if bound < DOUBLE:
        return torch.float32 if bound < SINGLE else torch.float64
    raise GraphError(
        f"node {name!r}: its sums may reach {bound:.3g}, beyond the 53 bits that are kept exactly; "
        "use fewer weight bits or a coarser input grid"
    )


class Products:
    """Weighted layers on whole numbers: in float32 where it can be trusted, else in float64."""

    def __init__(self) -> None:
        self._kinds: dict[Key, torch.dtype] = {}

    def __call__(self, op: Convolution | Linear, x: Tensor, bounds: tuple[float, float]) -> Tensor:
        """The products of whole weights and whole inputs, without the bias.

        `bounds` are the largest absolute input and an upper bound of the sums of absolute products,
        below ``2**53``.
        """
        peak, load = bounds
        kind = torch.float64
        if load < SINGLE:
            settings = () if isinstance(op, Linear) else (op.stride, op.padding, op.dilation)
            key = (x.device, tuple(x.shape), tuple(op.weight.shape), settings, peak)
            if key not in self._kinds:
                self._kinds[key] = _probed(op, x, peak, load)
            kind = self._kinds[key]
        return op.products(x.to(kind))


@torch.no_grad()
def _probed(op: Convolution | Linear, x: Tensor, peak: float, load: float) -> torch.dtype:
    """Float32 if products as large as allowed come out exactly in it, for this shape, on this device."""
    draw = torch.Generator().manual_seed(1)  # of its own: any numbers will do
    taps = op.weight[0].numel()
    widest = max(1, min(int(load / max(1.0, taps * peak)), 2**20))
    signal = torch.randint(-int(peak), int(peak) + 1, x.shape, generator=draw)
    weight = torch.randint(-widest, widest + 1, op.weight.shape, generator=draw)
    signal = signal.to(x.device, torch.float64)
    wanted = replace(op, weight=weight.to(signal)).products(signal)
    found = replace(op, weight=weight.to(signal).float()).products(signal.float())
    return torch.float32 if torch.equal(found.double(), wanted) else torch.float64
