"""Analogue stand-ins for spiking neurons: differentiable networks near a spiking one, not equal to it."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Replacement:
    """What a spiking layer sends instead of spikes when the network runs once, without time."""

    def __call__(self, current: Tensor, threshold: Tensor) -> Tensor:
        """(sample, ...) values for the constant current of the same shape."""
        raise NotImplementedError


@dataclass(frozen=True)
class Rectified(Replacement):
    """``max(I, 0)``: the network before conversion, with what the spiking one learnt ("Act").

    It leaves thresholds out of account (Schmolli et al., CPAL 2025, appendix A.3).
    """

    def __call__(self, current: Tensor, threshold: Tensor) -> Tensor:
        """The rectified current."""
        return F.relu(current)


@dataclass(frozen=True)
class Clipped(Replacement):
    """``min(max(I / V_th, 0), 1)``: the rate of a neuron with soft reset and many steps."""

    def __call__(self, current: Tensor, threshold: Tensor) -> Tensor:
        """Rates, 0 to 1."""
        return (current / threshold).clamp(0, 1)
