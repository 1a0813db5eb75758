"""SA-PGD: descent with normalised momentum, and steps by what every pixel's gradient was like so far.

Wang et al., arXiv 2512.22522. With g the gradient, means over all pixels of an image, and a step s that
begins at eps and is halved at the checkpoints of Auto-PGD whatever happened between them,

    m <- 0.5 m + g / mean |g|,    v <- 0.8 v + g^2 / mean g^2,
    x <- project(x + clip(s m / sqrt v, -s, s))

as in the authors' program, which starts at a random image whose farthest pixel is at the border. Ours:
the most damaging image is kept, not the last that fools, and for "l2", for which nothing was published,
a step of length s goes along m / sqrt v.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from spikemorph.graph import InputError

from ..draws import Draws
from ..target import Logits
from ..threat import Threat, wide
from .apgd import Ascent, checkpoints
from .base import attacks, input_gradient
from .best_image import BestImages
from .losses import checked, loss_named

_MOMENTUM, _SECOND = 0.5, 0.8
_SMALL = 1e-12


@dataclass(frozen=True)
class StableAdaptivePgd:
    """SA-PGD.

    Parameters
    ----------
    threat : Threat
    steps : int
        Of one restart.
    restarts : int
        Random starts; with `onward` the first starts at the best image so far.
    loss : str
        A name of the `losses` table; the authors take cross-entropy.
    onward : bool
        Whether to start where other attacks stopped.

    Raises
    ------
    InputError
        If steps or restarts are less than 1, or the loss is unknown.
    """

    threat: Threat
    steps: int = 100
    restarts: int = 1
    loss: str = "ce"
    onward: bool = False

    gradients = True
    step_size = None  # changes from step to step

    def __post_init__(self) -> None:
        loss_named(self.loss)
        if self.steps < 1 or self.restarts < 1:
            raise InputError(
                f"{self.steps} steps and {self.restarts} restarts: sa-pgd needs at least 1 of each"
            )

    @property
    def name(self) -> str:
        """``sa-pgd``, ``sa-pgd-cw``."""
        return "sa-pgd" if self.loss == "ce" else f"sa-pgd-{self.loss}"

    def __call__(
        self, model: Logits, x: Tensor, y: Tensor, draws: Draws, start: Tensor | None = None
    ) -> Tensor:
        """See `Attack`."""
        found, _ = BestImages.before(model, x, y)
        border = Ascent(self.threat, self.steps, 0.0, model, x, y)
        for restart in range(self.restarts):
            if self.threat.eps == 0 or found.all_final():
                break
            image = border.start(draws.fork(f"restart {restart}"))
            if start is not None and restart == 0:
                image = start
            found = self._climb(model, image, x, y, found)
        return found.images

    def _climb(
        self, model: Logits, image: Tensor, x: Tensor, y: Tensor, found: BestImages
    ) -> BestImages:
        first, second = torch.zeros_like(x), torch.zeros_like(x)
        size, checks = self.threat.eps, checkpoints(self.steps)
        for step in range(1, self.steps + 1):
            gradient, _, logits = input_gradient(model, image, checked(self.loss, y))
            found = found.with_(image, logits, y)
            gradient = _normal(gradient)  # first, so that no square is too small
            first = _MOMENTUM * first + gradient
            second = _SECOND * second + _normal(gradient.square())
            way = first / (second.sqrt() + _SMALL)
            moved = image + (
                (size * way).clamp(-size, size)
                if self.threat.norm == "linf"
                else size * self.threat.steepest(way)
            )
            image = self.threat.project(moved, x)
            size = size / 2 if step in checks else size
        with torch.no_grad():
            return found.with_(image, model(image), y).settled()


def _normal(values: Tensor) -> Tensor:
    """Over their mean size in every image."""
    return values / wide(values.abs().flatten(1).mean(1), values).clamp_min(_SMALL)


@attacks("sa-pgd")
def sa_pgd(threat: Threat) -> StableAdaptivePgd:
    """As published: 100 steps by cross-entropy."""
    return StableAdaptivePgd(threat)
