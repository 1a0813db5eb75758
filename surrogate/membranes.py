"""Backward rules of attackers: resets detached, and max-pools looked through to the membranes."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .gradients import Backward, Surrogate
from .neuron import Train


@dataclass(frozen=True)
class Detached(Surrogate):
    """``exp(-|u| / w) / (2 w)`` with ``w = width * V_th``; no gradient passes the reset.

    The width grows with the threshold, so that it means the same in every layer. What a spike takes from
    its own membrane makes the chain rule of a train oscillate from step to step; an attacker may leave it
    out (Zenke and Vogels, Neural Computation 2021, find the same of training).
    """

    through_reset = False

    width: float = 0.5

    def slopes(self, train: Train) -> Tensor:
        """Over u of one layer, (step, sample, ...)."""
        width = self.width * train.threshold
        return (train.distances.abs() / -width).exp_() / (2 * width)


@dataclass(frozen=True)
class MembranePooled:
    """A rule under which max-pools over spikes pass gradients to the cell of the largest membrane.

    Spikes are 0 or 1, so most cells of a window tie, and the first of them takes the gradient, however
    far from its threshold. The largest membrane spikes if any does: the forward pass is the same, bit
    for bit.
    """

    rule: Backward

    def gradients(self, train: Train, output: Tensor) -> tuple[Tensor, Tensor]:
        """As `Backward` says."""
        return self.rule.gradients(train, output)


@torch.no_grad()
def ordered(spikes: Tensor, membranes: Tensor, by_membrane: bool | Tensor) -> Tensor:
    """By what max-pools order cells: membranes, or spikes where samples are pooled as they are.

    All are (step, sample, ...); `by_membrane` may be (sample,) bool.
    """
    if isinstance(by_membrane, bool):
        return membranes if by_membrane else spikes
    return torch.where(
        by_membrane.reshape(1, -1, *[1] * (spikes.dim() - 2)), membranes, spikes.to(membranes)
    )
