"""Projected gradient descent, with restarts and the best iterate."""

from dataclasses import dataclass

import torch
from torch import Tensor

from spikemorph.graph import InputError

from ..draws import Draws
from ..target import Logits
from ..threat import Threat, require_unit_range
from .base import attacks, input_gradient
from .best_image import BestImages
from .losses import checked, loss_named


@dataclass(frozen=True)
class Pgd:
    """x <- project(x + step sign(g)), from a uniform start in the ball (Madry et al., ICLR 2018).

    Parameters
    ----------
    threat : Threat
        For "l2" a step goes along g / |g|.
    steps : int
        Of one restart.
    step : float, optional
        As a distance by the threat's norm; 2.5 eps / steps if left out, so that the border can be
        reached from every start, and followed (Madry et al.).
    restarts : int
        Random starts. A sample that one of them has fooled is left alone by the next.
    loss : str
        A name of the `losses` table.
    last_iterate : bool
        The last iterate is the result, good or bad, as in tables of papers and in training; else
        the most damaging one, and the clean image where that is misclassified.

    Raises
    ------
    InputError
        If steps or restarts are less than 1, a step is not positive, or the loss is unknown; if
        several restarts are asked for their last iterate.
    """

    threat: Threat
    steps: int
    step: float | None = None
    restarts: int = 1
    loss: str = "ce"
    last_iterate: bool = False

    gradients = True

    def __post_init__(self) -> None:
        loss_named(self.loss)
        if self.steps < 1 or self.restarts < 1:
            raise InputError(
                f"{self.steps} steps and {self.restarts} restarts: pgd needs at least 1 of each"
            )
        if self.step is not None and not 0 < self.step < float("inf"):
            raise InputError(f"a pgd step of {self.step}: give a positive length, or none")
        if self.last_iterate and self.restarts > 1:
            raise InputError("several restarts have no last iterate: ask for 1, or for the best")

    @property
    def name(self) -> str:
        """``pgd``, ``pgd-cw``, ``pgd-dlr``."""
        return "pgd" if self.loss == "ce" else f"pgd-{self.loss}"

    @property
    def step_size(self) -> float:
        """As a distance by the threat's norm."""
        return 2.5 * self.threat.eps / self.steps if self.step is None else self.step

    def __call__(self, model: Logits, x: Tensor, y: Tensor, draws: Draws) -> Tensor:
        """See `Attack`."""
        if self.last_iterate:
            require_unit_range(x)
            image = self._start(x, draws, 0)
            for _ in range(self.steps):
                image, _ = self._moved(model, image, x, y)
            return image
        found, _ = BestImages.before(model, x, y)
        for restart in range(self.restarts):
            if self.threat.eps == 0 or found.all_final():
                break
            image = self._start(x, draws, restart)
            for _ in range(self.steps):
                moved, logits = self._moved(model, image, x, y)
                found, image = found.with_(image, logits, y), moved
            with torch.no_grad():
                found = found.with_(image, model(image), y).settled()
        return found.images

    def _start(self, x: Tensor, draws: Draws, restart: int) -> Tensor:
        return self.threat.start(x, draws.fork(f"restart {restart}"))

    def _moved(self, model: Logits, image: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """One step on from `image`, and the logits of `image` itself."""
        gradient, _, logits = input_gradient(model, image, checked(self.loss, y))
        step = self.step_size * self.threat.steepest(gradient)
        return self.threat.project(image + step, x), logits


@attacks("pgd")
def pgd(threat: Threat) -> Pgd:
    """40 steps by cross-entropy."""
    return Pgd(threat, steps=40)


@attacks("pgd-cw")
def pgd_cw(threat: Threat) -> Pgd:
    """40 steps by the margin of logits."""
    return Pgd(threat, steps=40, loss="cw")


@attacks("pgd-dlr")
def pgd_dlr(threat: Threat) -> Pgd:
    """40 steps by the difference of logits ratio."""
    return Pgd(threat, steps=40, loss="dlr")
