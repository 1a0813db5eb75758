"""What adversarial training makes small: the loss on images that are bad for the network now.

``x~`` is an image within eps of ``x`` by the largest change of a pixel, found while the network is in
evaluation mode; ``f`` gives logits, ``p = softmax f``. Means are over the batch. Batch norms see both
``x`` and ``x~`` where both are in the loss, each as a batch of its own.
"""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from spikemorph.graph import InputError
from spikemorph.train.fabric import bare

from ..draws import Draws
from ..target import Logits
from .inner_attack import Ascent, cross_entropies, divergences, under_attack

_NEAR = 1e-3  # standard deviation of the first step, where the divergence has no gradient yet


@dataclass(frozen=True)
class PgdTraining:
    """``CE(f(x~), y)``, x~ by projected gradient ascent on it (Madry et al., ICLR 2018).

    Parameters
    ----------
    eps, steps, step_size : float, int, float
        See `Ascent`; started anywhere in the cube of half width eps.
    smoothing : float
        Of the labels in the outer loss; the attacker has sharp ones.
    """

    eps: float
    steps: int
    step_size: float
    smoothing: float = 0.0

    def __post_init__(self) -> None:
        _check(self.ascent, smoothing=self.smoothing)

    @property
    def ascent(self) -> Ascent:
        """How x~ is found."""
        return Ascent(self.eps, self.steps, self.step_size)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, generator: Generator) -> Tensor:
        """The mean over the batch; `x` in [0, 1]."""
        found = _from_anywhere(self.ascent, model, x, y, generator)
        return F.cross_entropy(model(found).float(), y, label_smoothing=self.smoothing)


@dataclass(frozen=True)
class FastAdversarial:
    """``CE(f(x~), y)``, x~ by one step from a random start (Wong, Rice and Kolter, ICLR 2020).

    A step much above 1.25 eps, or a long training, lets the network learn to mask its gradient
    ("catastrophic overfitting"): select epochs by an attack of several steps.

    Parameters
    ----------
    eps, step_size : float
        See `Ascent`; published: step_size = 1.25 eps.
    smoothing : float
        Of the labels in the outer loss.
    """

    eps: float
    step_size: float
    smoothing: float = 0.0

    def __post_init__(self) -> None:
        _check(self.ascent, smoothing=self.smoothing)

    @property
    def ascent(self) -> Ascent:
        """How x~ is found."""
        return Ascent(self.eps, 1, self.step_size)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, generator: Generator) -> Tensor:
        """The mean over the batch; `x` in [0, 1]."""
        found = _from_anywhere(self.ascent, model, x, y, generator)
        return F.cross_entropy(model(found).float(), y, label_smoothing=self.smoothing)


@dataclass(frozen=True)
class _Regularised:
    """The settings that TRADES and MART share; each has its own price."""

    eps: float
    steps: int
    step_size: float
    beta: float
    smoothing: float = 0.0

    def __post_init__(self) -> None:
        _check(self.ascent, self.beta, self.smoothing)

    @property
    def ascent(self) -> Ascent:
        """How x~ is found."""
        return Ascent(self.eps, self.steps, self.step_size)

    def start(self, x: Tensor, draws: Draws) -> Tensor:
        """Images a little beside x."""
        return x + _NEAR * draws.normal(*x.shape[1:])


@dataclass(frozen=True)
class Trades(_Regularised):
    """``CE(f(x), y) + beta KL(p(x) || p(x~))``, x~ by ascent on the divergence (Zhang et al., 2019).

    Gradients pass through both sides of the divergence.

    Parameters
    ----------
    eps, steps, step_size : float, int, float
        See `Ascent`; started 0.001 N(0, 1) away from x.
    beta : float
        Price of the divergence.
    smoothing : float
        Of the labels in the first term.
    """

    beta: float = 6.0

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, generator: Generator) -> Tensor:
        """The mean over the batch; `x` in [0, 1]."""
        with under_attack(model, x, generator) as (network, draws):
            found = _by_divergence(self.ascent, network, self.start(x, draws), x)
        return _clean_and_apart(model, x, found, y, self.beta, self.smoothing)


@dataclass(frozen=True)
class Mart(_Regularised):
    """``CE(f(x~), y) - log(1.0001 - max_{k != y} p_k(x~)) + beta KL(p(x) || p(x~)) (1 - p_y(x))``.

    x~ by ascent on the cross-entropy (Wang et al., ICLR 2020): what is misclassified already weighs
    more.

    Parameters
    ----------
    eps, steps, step_size : float, int, float
        See `Ascent`; started 0.001 N(0, 1) away from x.
    beta : float
        Price of the divergence.
    smoothing : float
        Of the labels in the first term.
    """

    beta: float = 5.0

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, generator: Generator) -> Tensor:
        """The mean over the batch; `x` in [0, 1]."""
        with under_attack(model, x, generator) as (network, draws):
            start = self.start(x, draws)
            found = self.ascent(network, start, x, lambda logits: cross_entropies(logits, y))
        clean, bad = model(x).float(), bare(model)(found).float()
        others = F.softmax(bad, 1).scatter(1, y[:, None], 0.0).amax(1)
        boosted = F.cross_entropy(bad, y, label_smoothing=self.smoothing)
        boosted = boosted - torch.log(1.0001 - others).mean()
        doubt = 1 - F.softmax(clean, 1).gather(1, y[:, None])[:, 0]
        return boosted + self.beta * (divergences(bad, clean) * doubt).mean()


@dataclass(frozen=True)
class RfgsmKl:
    """``CE(f(x), y) + beta KL(p(x) || p(x~))``, x~ by one step after a random step of fixed length.

    ``x1 = clip(x + (eps - step_size) sign(n))``, n normal;
    ``x~ = clip(x1 + step_size sign(grad KL(p(x) || p(x1))))``, within eps of x: the fine-tuning of
    sparse spiking networks in arXiv 2505.15833, equation 8, with step_size = eps / 2 and beta = 2.

    Parameters
    ----------
    eps, step_size : float
        See `Ascent`; step_size < eps.
    beta : float
        Price of the divergence.
    smoothing : float
        Of the labels in the first term.
    """

    eps: float
    step_size: float
    beta: float = 2.0
    smoothing: float = 0.0

    def __post_init__(self) -> None:
        _check(self.ascent, self.beta, self.smoothing)
        if self.step_size >= self.eps:
            raise InputError(
                f"step size {self.step_size:g}: the random step takes the rest of eps "
                f"{self.eps:g}; give less than eps"
            )

    @property
    def ascent(self) -> Ascent:
        """How x~ is found from x1."""
        return Ascent(self.eps, 1, self.step_size)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, generator: Generator) -> Tensor:
        """The mean over the batch; `x` in [0, 1]."""
        with under_attack(model, x, generator) as (network, draws):
            start = x + (self.eps - self.step_size) * draws.signs(*x.shape[1:])
            found = _by_divergence(self.ascent, network, start, x)
        return _clean_and_apart(model, x, found, y, self.beta, self.smoothing)


def _check(ascent: Ascent, beta: float = 0.0, smoothing: float = 0.0) -> None:
    """Refuse prices that are none; `ascent` has refused its own numbers when it was made."""
    if not 0 <= beta < float("inf"):
        raise InputError(f"beta {beta:g}: give a finite price of 0 or more")
    if not 0 <= smoothing <= 1:
        raise InputError(f"smoothing {smoothing:g}: give 0 to 1")


def _from_anywhere(
    ascent: Ascent, model: nn.Module, x: Tensor, y: Tensor, generator: Generator
) -> Tensor:
    """Bad images by cross-entropy, from a uniform start."""
    with under_attack(model, x, generator) as (network, draws):
        start = ascent.threat.start(x, draws)
        return ascent(network, start, x, lambda logits: cross_entropies(logits, y))


def _by_divergence(ascent: Ascent, network: Logits, start: Tensor, x: Tensor) -> Tensor:
    """Images whose outputs are far from those of `x`."""
    # Not under no_grad: autocast would then keep weights that have no gradient.
    wanted = network(x).detach()
    return ascent(network, start, x, lambda logits: divergences(logits, wanted))


def _clean_and_apart(
    model: nn.Module, x: Tensor, found: Tensor, y: Tensor, beta: float, smoothing: float
) -> Tensor:
    """``CE(f(x), y) + beta KL(p(x) || p(x~))``.

    The wrapped model runs once: before each run data-parallel wrappers overwrite the statistics of
    batch norms, which the gradient of an earlier run still needs.
    """
    clean, bad = model(x).float(), bare(model)(found).float()
    return (
        F.cross_entropy(clean, y, label_smoothing=smoothing) + beta * divergences(bad, clean).mean()
    )
