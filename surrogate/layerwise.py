"""Backward rules that look at a layer's whole spike train, not at single spikes."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from spikemorph.graph import InputError
from spikemorph.graph.brief import brief_repr

from .gradients import Backward, PiecewiseLinear, Surrogate, through_time
from .membranes import MembranePooled
from .neuron import Train

_SMALL = 1e-12


@dataclass(frozen=True)
class RateThrough:
    """BPTR: ``d/dI_t = d/do_t`` where a neuron spikes at all, else zero.

    Ding et al., NeurIPS 2022 (SNN-RAT). The threshold gets no gradient.
    """

    def gradients(self, train: Train, output: Tensor) -> tuple[Tensor, Tensor]:
        """As `Backward` says."""
        return output * train.spikes.any(0), torch.zeros_like(train.threshold)


@dataclass(frozen=True)
class RateGradient:
    """RGA: ``d/dI_t = d/do_t * f'(m)``, with m the mean current and f(m) the rate it is given.

    In units of V_th, with the leak tau (1 for integrate-and-fire: a half on 0..2):

        f' = (1 - low + low tau) / (1 + tau)    for 1 - tau <= m <= 2
        f' = low                                for 0 <= m < 1 - tau,    else 0

    Bu et al., CVPR 2023, for V_th = 1; other thresholds by the chain rule, f(m / V_th).

    Raises
    ------
    InputError
        If `low` is not a finite number of 0 or more.
    """

    low: float = 0.2

    def __post_init__(self) -> None:
        if not 0 <= self.low < math.inf:
            raise InputError(f"RateGradient: low is {self.low}; give a finite number of 0 or more")

    def gradients(self, train: Train, output: Tensor) -> tuple[Tensor, Tensor]:
        """As `Backward` says."""
        leak, mean = train.dynamics.leak, train.currents.mean(0) / train.threshold
        steep = (1 - self.low + self.low * leak) / (1 + leak)
        firing, silent = (mean >= 1 - leak) & (mean <= 2), (mean >= 0) & (mean < 1 - leak)
        slope = (firing * steep + silent * self.low) / train.threshold
        found = output * slope
        return found, -(found * mean).sum()


@dataclass(frozen=True)
class TimeAveraged:
    """``d/dI_t = mean over t of d/do_t * s_t``: one gradient for all steps, none from step to step.

    The averaged gradient of HART (Hao et al., ICLR 2024): the membrane is detached from its past.
    """

    surrogate: Surrogate = PiecewiseLinear(1.0)  # noqa: RUF009  a frozen value

    def gradients(self, train: Train, output: Tensor) -> tuple[Tensor, Tensor]:
        """As `Backward` says."""
        by_spike = output * self.surrogate.slopes(train)
        return by_spike.mean(0, keepdim=True).expand_as(output), -by_spike.sum()


@dataclass(frozen=True)
class Adaptive(Surrogate):
    """``exp(-|u| / w) / (2 w)`` with ``w = reach * mean |u|`` over the layer at that step.

    Every sample has its own width, so that a share of its neurons that does not depend on the
    scale of its membranes passes the gradient on: narrow surrogates vanish in layers whose
    membranes are far from V_th, wide ones blur layers whose membranes are near. The idea, not the
    formula, of the adaptive-sharpness surrogate of Wang et al. (arXiv 2512.22522).
    """

    reach: float = 0.5

    def slope(self, u: Tensor) -> Tensor:
        """Over u of one layer, (step, sample, ...)."""
        far = u.abs()
        axes = tuple(range(2, u.dim()))
        width = (self.reach * (far.mean(axes, keepdim=True) if axes else far)).clamp_min(_SMALL)
        return (far / -width).exp_() / (2 * width)


def per_sample(rules: tuple[Backward, ...], which: Tensor) -> "PerSample":
    """The rule by which sample k of a batch goes by ``rules[which[k]]``; `which` is (sample,)."""
    members = []
    for index, rule in enumerate(rules):
        rows = (which == index).nonzero()[:, 0]
        if len(rows):
            members.append((rule.rule if isinstance(rule, MembranePooled) else rule, rows))
    pooled = torch.tensor([isinstance(rule, MembranePooled) for rule in rules], device=which.device)
    return PerSample(tuple(members), pooled[which])


def by_membrane(rule: object) -> bool | Tensor:
    """Whether max-pools look through to membranes: for all samples, or (sample,) bool."""
    return rule.pooled if isinstance(rule, PerSample) else isinstance(rule, MembranePooled)


@dataclass(frozen=True, eq=False)
class PerSample:
    """Several rules that share a batch: each with the indices of its samples, which are disjoint.

    Surrogates differ in their slopes only, so that all of them take one way back through time, but for
    those that leave the reset out. `pooled` is (sample,) bool, see `by_membrane`.
    """

    members: tuple[tuple[Backward, Tensor], ...]
    pooled: Tensor

    __repr__ = brief_repr

    def gradients(self, train: Train, output: Tensor) -> tuple[Tensor, Tensor]:
        """As `Backward` says."""
        found, threshold = torch.empty_like(train.membranes), torch.zeros_like(train.threshold)
        steep = [
            (rule, rows)
            for rule, rows in self.members
            if isinstance(rule, Surrogate) and rule.through_reset
        ]
        if steep:
            rows = torch.cat([rows for _, rows in steep])
            part, start, slopes = train.rows(rows), 0, []
            for rule, own in steep:
                slopes.append(rule.slopes(part.rows(slice(start, start + len(own)))))
                start += len(own)
            found[:, rows], threshold = through_time(part, torch.cat(slopes, 1), output[:, rows])
        for other, rows in self.members:
            if not (isinstance(other, Surrogate) and other.through_reset):
                found[:, rows], more = other.gradients(train.rows(rows), output[:, rows])
                threshold = threshold + more
        return found, threshold
