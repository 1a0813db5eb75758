"""What goes along with training, step by step: rewiring, schedules, noise on weights, averages."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Generator, nn
from torch.optim import Optimizer


@dataclass(frozen=True)
class Moment:
    """One step of a run, as a companion sees it."""

    model: nn.Module
    optimizer: Optimizer
    generator: Generator  # the run's own: what is drawn from it resumes with the run
    step: int  # counted from 1 over the whole run
    steps: int  # of the whole run
    rate: float  # learning rate


class Companion(Protocol):
    """Called at every step; what it has to remember it keeps in buffers.

    They are the model's, or its own: a companion that is a module is written to the checkpoint.
    """

    def before_update(self, moment: Moment) -> bool:
        """Gradients are there, weights not yet changed; False leaves this update out."""
        ...

    def after_update(self, moment: Moment) -> None:
        """Weights have been changed."""
        ...


class Companions:
    """Several companions as one: called in their order; the update is made if all agree."""

    def __init__(self, *members: Companion) -> None:
        self.members = members

    def before_update(self, moment: Moment) -> bool:
        """Every member is asked, whatever those before it said."""
        answers = [member.before_update(moment) for member in self.members]
        return all(answers)

    def after_update(self, moment: Moment) -> None:
        """Every member is told."""
        for member in self.members:
            member.after_update(moment)


def together(*companions: Companion | None) -> Companion | None:
    """Those that there are, as one; None where there is none."""
    present = [companion for companion in companions if companion is not None]
    return Companions(*present) if len(present) > 1 else next(iter(present), None)


def kept_modules(companion: Companion | None) -> tuple[nn.Module, ...]:
    """The modules among a companion and its members, whose state belongs to a run's checkpoint."""
    if isinstance(companion, Companions):
        return tuple(m for member in companion.members for m in kept_modules(member))
    return (companion,) if isinstance(companion, nn.Module) else ()


class Following(Protocol):
    """Goes along with one run, to say which weights it ends with."""

    @property
    def companion(self) -> Companion | None:
        """What has to see every step."""
        ...

    @property
    def over(self) -> bool:
        """Whether the run has ended by what was judged so far, also before it was stopped."""
        ...

    def after_epoch(self, epoch: int) -> None:
        """An epoch, counted from 1, is over; may raise `TrainingStopped`."""
        ...

    def finish(self) -> None:
        """The run is over: bring the model to the weights that were chosen."""
        ...


class Ending(Protocol):
    """Begins to follow the training of a model."""

    def __call__(self, model: nn.Module, checkpoint: Path | None, first: int = 1) -> Following:
        """`checkpoint` is the run's, if it has one; no epoch before `first` may be chosen."""
        ...
