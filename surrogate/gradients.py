"""Surrogate gradients: what stands for the derivative of a spike in its membrane.

Each family maps u = v - V_th, in absolute units of the membrane, to d o / d v; the gradient then
flows back through all steps, through the reset too. The first three are those of Schmolli et al.,
CPAL 2025 (arXiv 2505.15833), appendix A.3.
"""

import math
from dataclasses import dataclass, fields
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from spikemorph.graph import InputError

from .neuron import Train


class Backward(Protocol):
    """How gradients pass a layer of spiking neurons; a frozen dataclass whose fields are its settings.

    The forward pass is the neuron's own, bit for bit.
    """

    def gradients(self, train: Train, output: Tensor) -> tuple[Tensor, Tensor]:
        """The gradients in the currents and in the threshold, from that in the spikes.

        `output` and the first result are (step, sample, ...), the second is a scalar. A sample's
        gradient depends on no other sample.
        """
        ...


@dataclass(frozen=True)
class Surrogate:
    """A backward rule that puts a slope for the derivative of every single spike.

    Raises
    ------
    InputError
        If a setting is not a finite number above zero.
    """

    def __post_init__(self) -> None:
        for field in fields(self):
            if not 0 < getattr(self, field.name) < math.inf:
                raise InputError(
                    f"{type(self).__name__}: {field.name} is {getattr(self, field.name)}; give a "
                    "finite number above 0"
                )

    through_reset: ClassVar[bool] = True  # whether gradients pass what a spike takes

    def slope(self, u: Tensor) -> Tensor:
        """d o / d v at u = v - V_th, elementwise."""
        raise NotImplementedError

    def slopes(self, train: Train) -> Tensor:
        """d o_t / d v_t of a whole run, (step, sample, ...)."""
        return self.slope(train.distances)

    def gradients(self, train: Train, output: Tensor) -> tuple[Tensor, Tensor]:
        """As `Backward` says; see `through_time`."""
        return through_time(train, self.slopes(train), output, through_reset=self.through_reset)


@dataclass(frozen=True)
class PiecewiseLinear(Surrogate):
    """``max(0, width - |u|) / width**2``: a triangle of area one (PCW)."""

    width: float = 1.0

    def slope(self, u: Tensor) -> Tensor:
        """The triangle."""
        return (self.width - u.abs()).clamp_min_(0).div_(self.width**2)


@dataclass(frozen=True)
class Exponential(Surrogate):
    """``scale * exp(-slope * |u|)`` (EXP); `rate` is the second number of the pair."""

    scale: float = 1.0
    rate: float = 1.0

    def slope(self, u: Tensor) -> Tensor:
        """The two exponential flanks."""
        return u.abs().mul_(-self.rate).exp_().mul_(self.scale)


@dataclass(frozen=True)
class Rectangular(Surrogate):
    """``1 / width`` where ``|u| < width / 2``, else zero (RECT)."""

    width: float = 1.0

    def slope(self, u: Tensor) -> Tensor:
        """The box."""
        return (u.abs() < self.width / 2).to(u).div_(self.width)


@dataclass(frozen=True)
class Arctan(Surrogate):
    """``(alpha / 2) / (1 + (pi alpha u / 2)**2)`` (Fang et al., ICCV 2021)."""

    alpha: float = 2.0

    def slope(self, u: Tensor) -> Tensor:
        """The derivative of ``arctan(pi alpha u / 2) / pi``."""
        return (self.alpha / 2) / (1 + (math.pi * self.alpha / 2 * u) ** 2)


@dataclass(frozen=True)
class Sigmoid(Surrogate):
    """``alpha s (1 - s)`` with ``s = 1 / (1 + exp(-alpha u))``."""

    alpha: float = 4.0

    def slope(self, u: Tensor) -> Tensor:
        """The derivative of the logistic function of ``alpha u``."""
        level = torch.sigmoid(self.alpha * u)
        return self.alpha * level * (1 - level)


@dataclass(frozen=True)
class StraightThrough(Surrogate):
    """One everywhere (STE)."""

    def slope(self, u: Tensor) -> Tensor:
        """Ones."""
        return torch.ones_like(u)


def through_time(
    train: Train, slopes: Tensor, output: Tensor, *, through_reset: bool = True
) -> tuple[Tensor, Tensor]:
    """The exact chain rule over all steps, given the slopes s_t = d o_t / d v_t.

    With g_t the gradient in the spike o_t and h_t that in what step t leaves, v'_t:

        hard reset    e_t = g_t - h_t v_t      d/dv_t = h_t (1 - o_t) + e_t s_t
        soft reset    e_t = g_t - h_t V_th     d/dv_t = h_t + e_t s_t
        d/dI_t = d/dv_t,    h_{t-1} = leak * d/dv_t,    d/dV_th = - sum of e_t s_t  (- h_t o_t, soft)

    Parameters
    ----------
    train : Train
        What the layer did.
    slopes, output : Tensor
        s_t and g_t, (step, sample, ...).
    through_reset : bool
        Whether gradients pass what a spike takes from the membrane; without, e_t = g_t.

    Returns
    -------
    tuple of Tensor
        d/dI_t, (step, sample, ...), and d/dV_th, a scalar.
    """
    dynamics, threshold = train.dynamics, train.threshold
    currents = torch.empty_like(slopes)
    towards = torch.zeros((), dtype=slopes.dtype, device=slopes.device)
    left: Tensor | None = None  # h_t; nothing comes after the last step
    for t in reversed(range(len(slopes))):
        membrane, slope, now = train.membranes[t], slopes[t], currents[t]
        if left is None:
            torch.mul(output[t], slope, out=now)
            towards = towards - now.sum()
        else:
            spikes = membrane >= threshold
            taken = membrane if dynamics.hard_reset else threshold
            by_spike = (output[t] - left * taken if through_reset else output[t]) * slope
            towards = towards - by_spike.sum()
            if dynamics.hard_reset:
                left = left.masked_fill(spikes, 0.0)
            else:
                towards = towards - (left * spikes).sum()
            torch.add(by_spike, left, out=now)
        left = now if dynamics.leak == 1 else now * dynamics.leak
    return currents, towards
