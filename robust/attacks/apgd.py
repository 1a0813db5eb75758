"""Auto-PGD: projected gradient descent that chooses the step size of every sample itself.

Croce and Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse
parameter-free attacks", ICML 2020, algorithm 1. With z the plain step and P the projection,

    z = P(x_i + step g_i),    x_{i+1} = P(x_i + a (z - x_i) + (1 - a) (x_i - x_{i-1})),    a = 0.75

At each checkpoint a sample's step is halved, and it goes on from its best point with the gradient
stored there, if its loss rose in too few of the steps since the last checkpoint, or if nothing
changed since the last one: neither the step nor the best loss.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from spikemorph.graph import InputError
from spikemorph.graph.brief import brief_repr

from ..draws import Draws
from ..target import Logits
from ..threat import Threat, wide
from .base import ONWARD, SampleLoss, attacks, input_gradient
from .best_image import BestImages
from .losses import loss_named

_MOMENTUM = 0.75
_SMALL = 1e-12


@dataclass(frozen=True)
class Apgd:
    """Auto-PGD on a loss of the label.

    Parameters
    ----------
    threat : Threat
        What it may do.
    steps : int
        Of one restart; the first step size is 2 eps.
    restarts : int
        Random starts. A sample that one of them has fooled is left alone by the next.
    loss : str
        A name of the `losses` table.
    rho : float
        The share of steps that must raise the loss.
    onward : bool
        Whether the first restart starts at the best image so far of all attacks.

    Raises
    ------
    InputError
        If steps or restarts are less than 1, rho is outside 0..1, or the loss is unknown.
    """

    threat: Threat
    steps: int = 100
    restarts: int = 1
    loss: str = "ce"
    rho: float = 0.75
    onward: bool = False

    gradients = True
    step_size = None  # chosen for every sample, again and again

    def __post_init__(self) -> None:
        require_settings(self.steps, self.restarts, self.rho)
        loss_named(self.loss)

    @property
    def name(self) -> str:
        """``apgd-ce``, ``apgd-dlr``, ``best:apgd-ce``."""
        return f"{ONWARD if self.onward else ''}apgd-{self.loss}"

    def __call__(
        self, model: Logits, x: Tensor, y: Tensor, draws: Draws, start: Tensor | None = None
    ) -> Tensor:
        """See `Attack`."""
        found, _ = BestImages.before(model, x, y)
        ascent = Ascent(self.threat, self.steps, self.rho, model, x, y)
        for restart in range(self.restarts):
            first = ascent.start(draws.fork(f"restart {restart}"))
            if start is not None and restart == 0:
                first = start
            found = ascent.climb(loss_named(self.loss), first, found)
        return found.images


@dataclass(frozen=True, eq=False)
class _Walk:
    """Where every sample stands; per-sample numbers are (sample,), images (sample, *shape)."""

    image: Tensor
    previous: Tensor  # the image before the last step
    gradient: Tensor  # at the image
    loss: Tensor  # of the last step
    step: Tensor
    best: Tensor
    best_loss: Tensor
    best_gradient: Tensor
    rises: Tensor  # steps since the last checkpoint that raised the loss
    halved: Tensor  # bool: at the last checkpoint
    best_before: Tensor  # the best loss at the last checkpoint


@dataclass(frozen=True, eq=False)
class Ascent:
    """Runs of Auto-PGD on the samples `x` with labels `y`, by whichever loss."""

    threat: Threat
    steps: int
    rho: float
    model: Logits
    x: Tensor
    y: Tensor

    __repr__ = brief_repr

    def start(self, draws: Draws) -> Tensor:
        """A random image on the border of the ball, then clipped to [0, 1].

        For "linf" a uniform draw is scaled until one pixel touches; for "l2" all directions are
        alike.
        """
        shape = self.x.shape[1:]
        if self.threat.norm == "linf":
            way = 2 * draws.uniform(*shape).to(self.x) - 1
            way = way / wide(way.flatten(1).abs().amax(1), way).clamp_min(_SMALL)
        else:
            way = self.threat.steepest(draws.normal(*shape).to(self.x))
        return self.threat.project(self.x + self.threat.eps * way, self.x)

    def climb(self, loss: SampleLoss, start: Tensor, found: BestImages) -> BestImages:
        """What is found on the way up from `start`; nothing is run if no sample needs it."""
        if self.threat.eps == 0 or found.all_final():
            return found
        gradient, value, logits = self._gradient(loss, start)
        found = found.with_(start, logits, self.y)
        walk = self._begin(start, gradient, value)
        last, checks = 0, checkpoints(self.steps)
        for step in range(1, self.steps + 1):
            image = self._moved(walk, _MOMENTUM if step > 1 else 1.0)
            gradient, value, logits = self._gradient(loss, image)
            found = found.with_(image, logits, self.y)
            walk = _recorded(walk, image, gradient, value)
            if step in checks:
                walk, found = _judged(walk, self.rho * (step - last)), found.settled()
                last = step
                if found.all_final():
                    break
        return found.settled()

    def _gradient(self, loss: SampleLoss, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return input_gradient(self.model, image, lambda logits: loss(logits, self.y))

    def _begin(self, start: Tensor, gradient: Tensor, value: Tensor) -> _Walk:
        none = torch.zeros_like(value)
        return _Walk(
            *(start, start, gradient, value),
            step=torch.full_like(value, 2 * self.threat.eps, dtype=start.dtype),
            best=start,
            best_loss=value,
            best_gradient=gradient,
            rises=none,
            halved=none == 0,
            best_before=value,
        )

    def _moved(self, walk: _Walk, momentum: float) -> Tensor:
        """The next image."""
        along = wide(walk.step, self.x) * self.threat.steepest(walk.gradient)
        plain = self.threat.project(walk.image + along, self.x)
        kept = (1 - momentum) * (walk.image - walk.previous)
        moved = walk.image + momentum * (plain - walk.image) + kept
        return self.threat.project(moved, self.x)


def _recorded(walk: _Walk, image: Tensor, gradient: Tensor, loss: Tensor) -> _Walk:
    """The walk after a step to `image`."""
    better = loss > walk.best_loss
    return replace(
        walk,
        image=image,
        previous=walk.image,
        gradient=gradient,
        loss=loss,
        best=torch.where(wide(better, image), image, walk.best),
        best_loss=torch.where(better, loss, walk.best_loss),
        best_gradient=torch.where(wide(better, image), gradient, walk.best_gradient),
        rises=walk.rises + (loss > walk.loss),
    )


def _judged(walk: _Walk, enough: float) -> _Walk:
    """The walk after a checkpoint: `enough` is how many steps had to raise the loss."""
    stuck = ~walk.halved & (walk.best_before >= walk.best_loss)
    halve = (walk.rises <= enough) | stuck
    back = wide(halve, walk.image)
    return replace(
        walk,
        image=torch.where(back, walk.best, walk.image),
        gradient=torch.where(back, walk.best_gradient, walk.gradient),
        step=torch.where(halve, walk.step / 2, walk.step),
        rises=torch.zeros_like(walk.rises),
        halved=halve,
        best_before=walk.best_loss,
    )


def checkpoints(steps: int) -> tuple[int, ...]:
    """The steps after which step sizes are judged.

    The first gap is 0.22 of all steps; each is shorter than the one before by 0.03 of them, down
    to 0.06, all rounded down, and at least one step.

    >>> checkpoints(100)
    (22, 41, 57, 70, 80, 87, 93, 99)
    """
    gap, shrink, least = (max(steps * percent // 100, 1) for percent in (22, 3, 6))
    found: list[int] = []
    while sum(found[-1:]) + gap <= steps:
        found.append(sum(found[-1:]) + gap)
        gap = max(gap - shrink, least)
    return tuple(found)


def require_settings(steps: int, restarts: int, rho: float) -> None:
    """Refuse settings that no run can have.

    Raises
    ------
    InputError
        If steps or restarts are less than 1, or rho is outside 0..1.
    """
    if steps < 1 or restarts < 1:
        raise InputError(f"{steps} steps and {restarts} restarts: apgd needs at least 1 of each")
    if not 0 <= rho <= 1:
        raise InputError(f"rho {rho}: it is a share of steps, 0..1")


@attacks("apgd-ce")
def apgd_ce(threat: Threat) -> Apgd:
    """The reference: 100 steps, one restart, cross-entropy."""
    return Apgd(threat)


@attacks("apgd-dlr")
def apgd_dlr(threat: Threat) -> Apgd:
    """The reference: 100 steps, one restart, difference of logits ratio."""
    return Apgd(threat, loss="dlr")
