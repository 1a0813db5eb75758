"""Projected gradient descent on the margin, with momentum and steps that shrink by a cosine."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from spikemorph.graph import InputError

from ..draws import Draws
from ..target import Logits
from ..threat import Threat, wide
from .base import ONWARD, attacks, input_gradient
from .best_image import BestImages
from .losses import checked, loss_named

_SMALL = 1e-12


@dataclass(frozen=True)
class MomentumPgd:
    """x <- project(x + a_k steepest(v)), v <- momentum v + g / |g|_1.

    Steps a_k fall from `first` eps to nothing by half a wave of a cosine. The averaged direction of Dong
    et al. (CVPR 2018, equation 6) carries over the plateaus and the noise of surrogate gradients; early
    steps cross the ball, late ones are as fine as needed. By default the loss is the margin, which does
    not saturate where cross-entropy does.

    Parameters
    ----------
    threat : Threat
    steps : int
        Of one restart.
    momentum : float
        What is kept of the direction; 0 keeps none.
    first : float
        The first step, in eps.
    restarts : int
        Random starts; with `onward` the first starts at the best image so far.
    loss : str
        A name of the `losses` table.
    onward : bool
        Whether to start where other attacks stopped.

    Raises
    ------
    InputError
        If steps or restarts are less than 1, momentum is outside 0..1, the first step is not positive,
        or the loss is unknown.
    """

    threat: Threat
    steps: int = 40
    momentum: float = 0.75
    first: float = 2.0
    restarts: int = 1
    loss: str = "cw"
    onward: bool = False

    gradients = True
    step_size = None  # changes from step to step

    def __post_init__(self) -> None:
        loss_named(self.loss)
        numbers = min(self.steps, self.restarts) >= 1 and 0 < self.first < math.inf
        if not (numbers and 0 <= self.momentum < 1):
            raise InputError(
                f"{self.steps} steps, {self.restarts} restarts, momentum {self.momentum}, first step "
                f"{self.first} eps: pgd-margin needs at least 1 step and restart, a momentum of 0 or "
                "more, less than 1, and a positive step"
            )

    @property
    def name(self) -> str:
        """``pgd-margin``, by another loss ``pgd-momentum-ce``; ``best:pgd-margin``."""
        own = "pgd-margin" if self.loss == "cw" else f"pgd-momentum-{self.loss}"
        return f"{ONWARD if self.onward else ''}{own}"

    def __call__(
        self, model: Logits, x: Tensor, y: Tensor, draws: Draws, start: Tensor | None = None
    ) -> Tensor:
        """See `Attack`."""
        found, _ = BestImages.before(model, x, y)
        for restart in range(self.restarts):
            if self.threat.eps == 0 or found.all_final():
                break
            image = self.threat.start(x, draws.fork(f"restart {restart}"))
            if start is not None and restart == 0:
                image = start
            found = self._climb(model, image, x, y, found)
        return found.images

    def _climb(
        self, model: Logits, image: Tensor, x: Tensor, y: Tensor, found: BestImages
    ) -> BestImages:
        direction = torch.zeros_like(x)
        for step in range(self.steps):
            gradient, _, logits = input_gradient(model, image, checked(self.loss, y))
            found = found.with_(image, logits, y)
            length = wide(gradient.abs().flatten(1).mean(1), gradient).clamp_min(_SMALL)
            direction = self.momentum * direction + gradient / length
            fall = (1 + math.cos(math.pi * step / self.steps)) / 2
            size = self.first * self.threat.eps * fall
            image = self.threat.project(image + size * self.threat.steepest(direction), x)
        with torch.no_grad():
            return found.with_(image, model(image), y).settled()


@attacks("pgd-margin")
def pgd_margin(threat: Threat) -> MomentumPgd:
    """40 steps."""
    return MomentumPgd(threat)
