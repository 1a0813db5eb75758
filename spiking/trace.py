"""What one batch did in time: outputs, spikes, and when it fell silent."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from spikemorph.graph import InputError
from spikemorph.graph.brief import brief

from .network import SpikingNetwork


@dataclass(frozen=True)
class Trace:
    """The record of one run; nothing in it depends on any energy model.

    Parameters
    ----------
    outputs : Tensor
        (step, sample, *output shape) int64: the read-out's sums after each step.
    positive, negative : mapping of str to Tensor
        (step, sample) int64: how many spikes of each sign every neuron layer sent.
    settled : Tensor
        (sample,) int64: the last step at which anything happened, where a silent step was seen
        after it (theorem 3); -1 where none was seen.
    trains : mapping of str to Tensor
        (step, sample, *shape) int64 spikes, where the run was asked to record them.
    """

    outputs: Tensor
    positive: Mapping[str, Tensor]
    negative: Mapping[str, Tensor]
    settled: Tensor
    trains: Mapping[str, Tensor]

    def __repr__(self) -> str:
        silent = int((self.settled >= 0).sum())
        return (
            f"Trace of {self.steps} steps of {len(self.settled)} samples: outputs "
            f"{brief(self.outputs)}, {int(self.spikes().sum()):,} spikes of {len(self.positive)} neuron "
            f"layers, {silent} samples settled"
        )

    @property
    def steps(self) -> int:
        """How many steps were run."""
        return len(self.outputs)

    def spikes(self) -> Tensor:
        """(step, sample) int64: spikes of all layers, whatever their sign."""
        layers = [*self.positive.values(), *self.negative.values()]
        zero = torch.zeros(self.outputs.shape[:2], dtype=torch.int64)
        return torch.stack(layers).sum(0) if layers else zero

    def real_outputs(self, network: SpikingNetwork) -> Tensor:
        """(step, sample, *output shape) float64: logits, or what the analog read-out makes of them.

        A rate-coded network's sums grow with time; its outputs are means over the steps so far.
        """
        sums = self.outputs.to(torch.float64)
        if network.rate_coded:
            steps = torch.arange(1, self.steps + 1, dtype=torch.float64)
            sums = sums / steps.reshape(-1, *[1] * (sums.dim() - 1))
        return torch.stack([network.readout.real(step) for step in sums])


def require_steps(steps: int) -> None:
    """Refuse a run of no step.

    Raises
    ------
    InputError
        With the number.
    """
    if steps < 1:
        raise InputError(f"{steps} steps: a network runs for 1 step or more")


def settled_at(active: Tensor) -> Tensor:
    """(sample,) the last active step before the first silent one, from (step, sample) activity.

    -1 where every step was active. Steps count from 1.
    """
    silent = ~active
    first = silent.to(torch.int8).argmax(0)
    return torch.where(silent.any(0), first, torch.full_like(first, -1))
