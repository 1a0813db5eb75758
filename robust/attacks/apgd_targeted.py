"""Targeted Auto-PGD: one run towards each of the classes that the clean image is most like."""

from dataclasses import dataclass

import torch
from torch import Tensor

from spikemorph.graph import InputError

from ..draws import Draws
from ..target import Logits
from ..threat import Threat
from .apgd import Ascent, require_settings
from .base import attacks
from .best_image import BestImages
from .losses import dlr_towards


@dataclass(frozen=True)
class TargetedApgd:
    """Auto-PGD on the targeted difference of logits ratio (Croce and Hein, ICML 2020).

    Parameters
    ----------
    threat : Threat
        What it may do.
    steps : int
        Of one run: there are `targets` x `restarts` of them.
    restarts : int
        Random starts for each target.
    targets : int
        At most: the classes with the largest clean logits but for the label; a network with fewer
        is attacked towards all of them.
    rho : float
        The share of steps that must raise the loss.

    Raises
    ------
    InputError
        If steps, restarts or targets are less than 1, or rho is outside 0..1. When called: if the
        network has fewer than four classes, which its loss needs.
    """

    threat: Threat
    steps: int = 100
    restarts: int = 1
    targets: int = 9
    rho: float = 0.75

    name = "apgd-t"
    gradients = True
    loss = "targeted dlr"
    step_size = None  # chosen for every sample, again and again

    def __post_init__(self) -> None:
        require_settings(self.steps, self.restarts, self.rho)
        if self.targets < 1:
            raise InputError(f"{self.targets} targets: apgd-t needs at least 1")

    def __call__(self, model: Logits, x: Tensor, y: Tensor, draws: Draws) -> Tensor:
        """See `Attack`."""
        found, logits = BestImages.before(model, x, y)
        dlr_towards(y)(logits, y)  # refuses too few classes before any work
        others = logits.scatter(1, y[:, None], -torch.inf)
        order = others.argsort(dim=1, descending=True, stable=True)
        ascent = Ascent(self.threat, self.steps, self.rho, model, x, y)
        for rank in range(min(self.targets, logits.shape[1] - 1)):
            own = draws.fork(f"target {rank}")
            for restart in range(self.restarts):
                start = ascent.start(own.fork(f"restart {restart}"))
                found = ascent.climb(dlr_towards(order[:, rank]), start, found)
        return found.images


@attacks("apgd-t")
def apgd_t(threat: Threat) -> TargetedApgd:
    """The reference: nine targets of 100 steps, one restart."""
    return TargetedApgd(threat)
