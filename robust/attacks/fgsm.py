"""Attacks of one gradient step, with and without a random start."""

from dataclasses import dataclass

from torch import Tensor

from ..draws import Draws
from ..target import Logits
from ..threat import Threat, require_unit_range
from .base import attacks, input_gradient
from .losses import checked


@dataclass(frozen=True)
class Fgsm:
    """x + eps sign(g): the fast gradient sign method (Goodfellow et al., ICLR 2015).

    All three attacks of this file return their step as it is, also where it repairs a
    misclassified sample: count as robust only what is right before and after.
    """

    threat: Threat
    loss: str = "ce"

    name = "fgsm"
    gradients = True
    steps = 1
    restarts = 1

    @property
    def step_size(self) -> float:
        """As a distance by the threat's norm."""
        return self.threat.eps

    def __call__(self, model: Logits, x: Tensor, y: Tensor, draws: Draws) -> Tensor:
        """See `Attack`; nothing is drawn."""
        del draws
        require_unit_range(x)
        return step_from(x, model, x, y, self)


@dataclass(frozen=True)
class RandomFgsm:
    """x' = x + eps/2 sign(normal), then x' + eps/2 sign(g): R+FGSM (Tramer et al., ICLR 2018).

    The start leaves the neighbourhood in which a network trained on single steps may have hidden
    its gradient. For "l2" it goes by eps/2 in a random direction.
    """

    threat: Threat
    loss: str = "ce"

    name = "rfgsm"
    gradients = True
    steps = 1
    restarts = 1

    @property
    def step_size(self) -> float:
        """As a distance by the threat's norm."""
        return self.threat.eps / 2

    def __call__(self, model: Logits, x: Tensor, y: Tensor, draws: Draws) -> Tensor:
        """See `Attack`."""
        require_unit_range(x)
        way = self.threat.steepest(draws.fork("start").normal(*x.shape[1:]).to(x))
        start = self.threat.project(x + (self.threat.eps - self.step_size) * way, x)
        return step_from(start, model, x, y, self)


@dataclass(frozen=True)
class FastFgsm:
    """A uniform start in the ball, then 1.25 eps sign(g), projected (Wong et al., ICLR 2020)."""

    threat: Threat
    loss: str = "ce"

    name = "ffgsm"
    gradients = True
    steps = 1
    restarts = 1

    @property
    def step_size(self) -> float:
        """As a distance by the threat's norm; longer than eps, so that borders are reached."""
        return 1.25 * self.threat.eps

    def __call__(self, model: Logits, x: Tensor, y: Tensor, draws: Draws) -> Tensor:
        """See `Attack`."""
        require_unit_range(x)
        return step_from(self.threat.start(x, draws.fork("start")), model, x, y, self)


def step_from(
    start: Tensor, model: Logits, x: Tensor, y: Tensor, attack: Fgsm | RandomFgsm | FastFgsm
) -> Tensor:
    """The attack's one step, from `start`.

    Raises
    ------
    InputError
        If the loss is unknown, labels are not classes, or logits are not logits.
    """
    gradient, _, _ = input_gradient(model, start, checked(attack.loss, y))
    return attack.threat.project(start + attack.step_size * attack.threat.steepest(gradient), x)


@attacks("fgsm")
def fgsm(threat: Threat) -> Fgsm:
    """By cross-entropy."""
    return Fgsm(threat)


@attacks("rfgsm")
def rfgsm(threat: Threat) -> RandomFgsm:
    """By cross-entropy."""
    return RandomFgsm(threat)


@attacks("ffgsm")
def ffgsm(threat: Threat) -> FastFgsm:
    """By cross-entropy."""
    return FastFgsm(threat)
