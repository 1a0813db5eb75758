"""Averages of the weights along a run, which generalise better than where it happens to end."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from spikemorph.graph.errors import InputError

from .companion import Moment


class Averaging(Protocol):
    """How much of the average each step's weights become."""

    def share(self, step: int, steps: int, seen: int) -> float:
        """The share, 0..1, in step `step` of `steps` after `seen` others were taken in."""
        ...


@dataclass(frozen=True)
class Swa:
    """The plain mean over the last part of a run (Izmailov et al., UAI 2018), here of every step.

    Parameters
    ----------
    start : float
        The share of the run, 0 <= start < 1, after which averaging begins.
    """

    start: float = 0.75

    def __post_init__(self) -> None:
        if not 0 <= self.start < 1:
            raise InputError(f"averaging from {self.start:g} of the run on: give 0 <= start < 1")

    def share(self, step: int, steps: int, seen: int) -> float:
        """See `Averaging`."""
        return 0.0 if step <= self.start * steps else 1 / (seen + 1)


@dataclass(frozen=True)
class Ema:
    """``average <- d average + (1 - d) weights`` with ``d = min(decay, (1 + n) / (10 + n))``.

    n steps were taken in before, so that the first weights are soon forgotten.

    Parameters
    ----------
    decay : float
        0 <= decay < 1.
    """

    decay: float = 0.995

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise InputError(f"decay {self.decay:g} of an average: give 0 <= decay < 1")

    def share(self, step: int, steps: int, seen: int) -> float:
        """See `Averaging`."""
        return 1.0 if seen == 0 else 1 - min(self.decay, (1 + seen) / (10 + seen))


class Average(nn.Module):
    """A companion that keeps the average of a model's parameters and statistics; resumes with the run.

    Whole numbers and masks are copied as they are. A `project` of the loop acts after the average
    was taken. `mean` is the averaged network, in evaluation mode; it can be used at any time.

    Parameters
    ----------
    model : Module
        Left as it is; the one that `fit` is given.
    averaging : Averaging
        `Swa` or `Ema`.
    """

    seen: Tensor

    def __init__(self, model: nn.Module, averaging: Averaging) -> None:
        super().__init__()
        self.mean = deepcopy(model).requires_grad_(False).eval()
        self.averaging = averaging
        self.register_buffer("seen", torch.tensor(0))

    def before_update(self, moment: Moment) -> bool:
        """Nothing is asked of the update."""
        return True

    @torch.no_grad()
    def after_update(self, moment: Moment) -> None:
        """Take in the weights of this step; until averaging begins, follow them."""
        share = self.averaging.share(moment.step, moment.steps, int(self.seen))
        for mean, value in _pairs(self.mean, moment.model):
            if share > 0 and mean.is_floating_point():
                mean.lerp_(value.to(mean.device), share)
            else:
                mean.copy_(value)
        if share > 0:
            self.seen += 1


def _pairs(mean: nn.Module, model: nn.Module) -> Iterator[tuple[Tensor, Tensor]]:
    yield from zip(mean.parameters(), model.parameters(), strict=True)
    yield from zip(mean.buffers(), model.buffers(), strict=True)


@torch.no_grad()
def settle_statistics(model: nn.Module, x: Tensor, batch: int = 128, batches: int = 50) -> None:
    """Let the batch norms of `model` see samples again, its weights standing still.

    For averaged weights whose statistics were not averaged with them. Only modules that hold
    statistics are in training mode meanwhile, so that no dropout draws; samples (sample, *shape) are
    taken in their order, over and over, until there were so many batches.
    """
    size = min(batch, len(x))
    device = next(model.parameters()).device
    with _only_statistics_move(model):
        for number in range(batches):
            index = (number * size + torch.arange(size)) % len(x)
            model(x[index].to(device))


@contextmanager
def _only_statistics_move(model: nn.Module) -> Iterator[None]:
    before = [(module, module.training) for module in model.modules()]
    for module, _ in before:
        module.training = any(b.is_floating_point() for b in module.buffers(recurse=False))
    try:
        yield
    finally:
        for module, mode in before:
            module.training = mode
