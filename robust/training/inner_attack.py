"""The inner maximisation of adversarial training: bad images for the network as it is now."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as processes
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from spikemorph.graph import InputError
from spikemorph.train.fabric import bare

from ..attacks.base import input_gradient
from ..draws import Draws
from ..target import Logits
from ..threat import Threat, require_unit_range


@dataclass(frozen=True)
class Ascent:
    """``image <- project(image + step_size sign(g))``, so many times; the last image is taken.

    Parameters
    ----------
    eps : float
        Largest change of a pixel, the input being in [0, 1]: 8/255, not 8.
    steps : int
        At least 1.
    step_size : float
        In units of the input, as `eps`.

    Raises
    ------
    InputError
        If a number is outside its range, or eps in pixel units.
    """

    eps: float
    steps: int
    step_size: float

    def __post_init__(self) -> None:
        if not self.threat.eps > 0:
            raise InputError(f"eps {self.eps:g}: adversarial training needs one above 0: 8/255")
        if self.steps < 1:
            raise InputError(f"{self.steps} attack steps: give 1 or more")
        if not 0 < self.step_size <= 1:
            raise InputError(
                f"step size {self.step_size:g}: give a part of the input's range, 0 < size <= 1"
            )

    @property
    def threat(self) -> Threat:
        """All images within `eps` of the clean one by the largest change of a pixel."""
        return Threat("linf", self.eps)

    def __call__(
        self, network: Logits, start: Tensor, x: Tensor, loss: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Images (sample, *shape) on which the `loss` of the logits, (sample,), is larger.

        Parameters
        ----------
        network : callable
            Differentiable in its input. Parameters' own gradients are left alone.
        start : Tensor
            Where to begin, allowed or not.
        x : Tensor
            The clean images, in [0, 1].
        loss : callable
            (sample, class) logits to (sample,).
        """
        image = self.threat.project(start, x)
        for _ in range(self.steps):
            gradient, _, _ = input_gradient(network, image, loss)
            image = self.threat.project(image + self.step_size * gradient.sign(), x)
        return image


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Every module in evaluation mode, and afterwards each in the mode it had."""
    before = [(module, module.training) for module in model.modules()]
    try:
        for module, _ in before:
            module.training = False
        yield
    finally:
        for module, mode in before:
            module.training = mode


def draws_of(x: Tensor, generator: Generator) -> Draws:
    """One stream for every sample of a batch, from one number of the generator.

    Where processes share a batch, each has the streams of its own share: what they draw together
    is what one process draws, and their generators stay in step.
    """
    seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    rank, world = 0, 1
    if processes.is_available() and processes.is_initialized():
        rank, world = processes.get_rank(), processes.get_world_size()
    return Draws.of(seed, rank + world * torch.arange(len(x), device=x.device))


@contextmanager
def under_attack(
    model: nn.Module, x: Tensor, generator: Generator
) -> Iterator[tuple[Logits, Draws]]:
    """The network as an attacker in training sees it, in evaluation mode, and the batch's draws.

    Raises
    ------
    InputError
        If `x` is not in [0, 1].
    """
    require_unit_range(x)
    network = bare(model)
    with evaluating(network):
        yield network, draws_of(x, generator)


def cross_entropies(logits: Tensor, y: Tensor) -> Tensor:
    """(sample,) -log p(label)."""
    return F.cross_entropy(logits.float(), y, reduction="none")


def divergences(logits: Tensor, wanted: Tensor) -> Tensor:
    """(sample,) KL(softmax(wanted) || softmax(logits)), gradients through both."""
    wanted, found = F.log_softmax(wanted.float(), 1), F.log_softmax(logits.float(), 1)
    return F.kl_div(found, wanted, reduction="none", log_target=True).sum(1)
