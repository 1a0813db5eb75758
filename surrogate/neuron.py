"""The float spiking neuron: what its membrane does in time.

    v_t = leak * v'_{t-1} + I_t,    o_t = 1 where v_t >= V_th else 0,    v'_0 = 0
    v'_t = v_t (1 - o_t)            with hard reset (to zero)
    v'_t = v_t - V_th o_t           with soft reset (by subtraction)

A leak of 1 is the integrate-and-fire neuron, less is the leaky one. Spikes are 0 or 1, not V_th.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from spikemorph.graph import InputError
from spikemorph.graph.brief import brief_repr
from spikemorph.graph.fields import Above, Between
from spikemorph.graph.records import Record

Steps = Annotated[int, Between(1, 2**16)]
Leak = Annotated[float, Above(0), Between(0, 1)]


@dataclass(frozen=True)
class Dynamics(Record):
    """What all neurons of a network share, but for their thresholds.

    Parameters
    ----------
    steps : int
        T, for how many steps the constant input is shown.
    leak : float
        What a step leaves of the membrane, above 0, at most 1.
    hard_reset : bool
        Whether a spike sets the membrane to zero; else it takes the threshold off.

    Raises
    ------
    InputError
        If a setting is out of its range.
    """

    steps: Steps = 8
    leak: Leak = 1.0
    hard_reset: bool = True

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise InputError(f"steps {self.steps}: a spiking network runs for at least 1 step")
        if not 0 < self.leak <= 1:
            raise InputError(f"leak {self.leak}: give a share above 0 and at most 1 (1: no leak)")

    @torch.no_grad()
    def membranes(self, currents: Tensor, threshold: Tensor) -> Tensor:
        """v_t before the reset, (step, sample, ...), for the currents I_t of the same shape."""
        membranes = torch.empty_like(currents)
        kept: Tensor | None = None
        for current, membrane in zip(currents, membranes, strict=True):
            if kept is None:
                membrane.copy_(current)
            else:  # two roundings, as the equation says, on every machine
                torch.add(current, kept if self.leak == 1 else kept.mul_(self.leak), out=membrane)
            kept = self._reset(membrane, threshold)
        return membranes

    def _reset(self, membrane: Tensor, threshold: Tensor) -> Tensor:
        """What a step leaves of the membrane, before it leaks."""
        spikes = membrane >= threshold
        if self.hard_reset:
            return membrane.masked_fill(spikes, 0.0)
        return membrane - spikes * threshold


@dataclass(frozen=True, eq=False)
class Train:
    """What one layer did in a run, as a backward rule sees it.

    Parameters
    ----------
    currents, membranes : Tensor
        I_t and v_t before the reset, (step, sample, ...).
    threshold : Tensor
        V_th, a scalar above zero.
    dynamics : Dynamics
        The neuron's.
    """

    currents: Tensor
    membranes: Tensor
    threshold: Tensor
    dynamics: Dynamics

    __repr__ = brief_repr

    @property
    def spikes(self) -> Tensor:
        """(step, sample, ...), where a spike was sent; bool."""
        return self.membranes >= self.threshold

    @property
    def distances(self) -> Tensor:
        """u_t = v_t - V_th, (step, sample, ...)."""
        return self.membranes - self.threshold

    def rows(self, chosen: Tensor | slice) -> "Train":
        """The same of some samples: by index."""
        return Train(
            self.currents[:, chosen], self.membranes[:, chosen], self.threshold, self.dynamics
        )
