"""What an attack is, and the gradient that all gradient attacks take."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from spikemorph.graph.tables import Table

from ..draws import Draws
from ..target import Logits
from ..threat import Threat

# Metadata of a field that has no plain value: which field of the same attack names what it holds.
NAMED_BY = "named by"

# (sample, class) logits and (sample,) labels to (sample,) losses, which an attacker makes large.
SampleLoss = Callable[[Tensor, Tensor], Tensor]


class Attack(Protocol):
    """A frozen dataclass whose fields are its settings; steps are always given, never assumed."""

    @property
    def name(self) -> str:
        """What users call it, without its settings: ``pgd``, ``apgd-ce``."""
        ...

    @property
    def threat(self) -> Threat:
        """What it may do."""
        ...

    @property
    def gradients(self) -> bool:
        """Whether it needs gradients: then it is run on every gradient path."""
        ...

    def __call__(self, model: Logits, x: Tensor, y: Tensor, draws: Draws) -> Tensor:
        """An allowed image for every sample, the most damaging one that was found.

        `x` (sample, *shape) in [0, 1], `y` (sample,) int64 labels; draws are per sample, so that
        the result does not depend on the other samples of the batch. The model is always called
        with all samples, in order, so that it may treat each of them in its own way (`mixed` of
        `Target`). Global random state, module modes and parameters' gradients are left as they
        were.
        """
        ...


@runtime_checkable
class Onward(Protocol):
    """An attack that may start where others stopped, and does if it has `onward` set."""

    onward: bool

    def __call__(
        self, model: Logits, x: Tensor, y: Tensor, draws: Draws, start: Tensor | None = None
    ) -> Tensor:
        """As `Attack`, from `start` (sample, *shape), allowed images, if they are given."""
        ...


ONWARD = "best:"  # before the name of an attack that goes on


def goes_on(attack: Attack) -> bool:
    """Whether the attack starts at the best images so far."""
    return isinstance(attack, Onward) and attack.onward


def run_from(
    attack: Attack, model: Logits, x: Tensor, y: Tensor, draws: Draws, start: Tensor | None
) -> Tensor:
    """What the attack finds; one that goes on begins at `start`, if that is given."""
    if start is not None and isinstance(attack, Onward) and attack.onward:
        return attack(model, x, y, draws, start)
    return attack(model, x, y, draws)


# Key: the attack's name. Row: from a threat to the attack with reference settings.
attacks: Table[Callable[[Threat], Attack]] = Table("attacks")


def input_gradient(
    model: Logits, x: Tensor, loss: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradient of every sample's loss in its input, the loss, and the logits, all detached.

    `loss` is of the logits: (sample, class) to (sample,). A model without any gradient gives zeros.
    """
    with torch.enable_grad():
        image = x.detach().requires_grad_()
        logits = model(image)
        each = loss(logits)
        if not each.requires_grad:
            return torch.zeros_like(x), each.detach(), logits.detach()
        (found,) = torch.autograd.grad(each.sum(), image, allow_unused=True)
    gradient = torch.zeros_like(x) if found is None else found
    return gradient.detach(), each.detach(), logits.detach()
