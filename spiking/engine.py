"""What runs a network: an explicit state, one step or several at a time, and the run made of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from .increments import Held
from .network import SpikingNetwork
from .trace import Trace, require_steps, settled_at


@dataclass(frozen=True, eq=False)
class State:
    """A network between two steps.

    Parameters
    ----------
    done : int
        How many steps were run.
    held : mapping of str to tuple of Tensor
        What every node that remembers something carries on, (sample, ...) each; a node that is not
        there is at rest. What it means is the engine's own.
    """

    done: int = 0
    held: Mapping[str, Held] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"State of {len(self.held)} nodes after {self.done} steps"

    def of(self, samples: Tensor) -> "State":
        """The state of some of the samples, by their numbers."""
        held = {name: tuple(t[samples] for t in own) for name, own in self.held.items()}
        return State(self.done, held)


@dataclass(frozen=True, eq=False)
class Step:
    """What happened in one step, or in several: all tensors begin with (step, sample).

    Parameters
    ----------
    outputs : Tensor
        (step, sample, *output shape) int64: the read-out's sums after each step.
    positive, negative : mapping of str to Tensor
        (step, sample) whole numbers: how many spikes of each sign every neuron layer sent.
    active : Tensor
        (step, sample) bool: whether anything happened, or may still happen by the clock alone.
    spikes : mapping of str to Tensor
        (step, sample, *shape) whole numbers, where they were asked for.
    """

    outputs: Tensor
    positive: Mapping[str, Tensor]
    negative: Mapping[str, Tensor]
    active: Tensor
    spikes: Mapping[str, Tensor]

    def of(self, there: Tensor) -> "Step":
        """The step in which only samples that are `there` (sample,) bool did anything."""
        there = there.to(self.active.device)

        def masked(counts: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {
                name: own * there.reshape(1, -1, *[1] * (own.dim() - 2))
                for name, own in counts.items()
            }

        positive, negative, spikes = map(masked, (self.positive, self.negative, self.spikes))
        return Step(self.outputs, positive, negative, self.active & there, spikes)


class Runs(Protocol):
    """Runs samples through one network; `stride` is how many steps are best taken together."""

    network: SpikingNetwork
    stride: int

    def run(self, x: Tensor, steps: int, *, record: bool = False) -> Trace:
        """Run samples `x` (sample, *shape), real values on the grid, for `steps` steps.

        Raises
        ------
        InputError
            If there is no step, or a value is outside the input grid.
        """


class Engine(Runs, Protocol):
    """Runs one network step by step; every engine equals the reference, spike for spike.

    Where `stops`, a run may end once all samples have had a silent step, since later steps are
    repetition (theorem 3).
    """

    stops: bool

    def start(self) -> State:
        """The network at rest, before the first step; for any number of samples."""

    def step(
        self, state: State, points: Tensor, count: int = 1, *, record: bool = False
    ) -> tuple[State, Step]:
        """The next `count` steps of samples (sample, *shape), int64 on the network's grid.

        With `record` the spikes are kept. The state that was given stays as it is.
        """


WORTH_IT = 0.75  # where no larger share of the samples still runs, the others are left out


def run(engine: Engine, x: Tensor, steps: int, *, record: bool = False) -> Trace:
    """How every engine runs samples; see `Engine.run`.

    Samples that have settled are left out of what is still computed, once they are many.
    """
    require_steps(steps)
    points = engine.network.grid.to_integers(x)
    state, running = engine.start(), torch.arange(len(points))
    parts: Parts = []
    while state.done < steps:
        count = min(engine.stride, steps - state.done)
        state, step = engine.step(state, points, count, record=record)
        parts.append((running, step))
        if engine.stops:
            left = step.active[-1].nonzero().flatten().cpu()
            if not len(left):
                break
            if len(left) <= WORTH_IT * len(running):
                state, points, running = state.of(left), points[left], running[left]
    return _trace(parts, steps, len(x))


Parts = list[tuple[Tensor, Step]]  # which samples were still running, and what they did


def _trace(parts: Parts, steps: int, samples: int) -> Trace:
    """One record of all parts; after its last part a sample repeats its outputs and sends nothing."""
    last = torch.zeros(samples, dtype=torch.int64)
    done = 0
    for running, step in parts:
        done += len(step.outputs)
        last[running] = done - 1
    outputs, active = (
        _laid([(running, getattr(step, kind)) for running, step in parts], steps, samples)
        for kind in ("outputs", "active")
    )
    layers = (
        {
            name: _laid(
                [(running, getattr(step, kind)[name]) for running, step in parts], steps, samples
            )
            for name in getattr(parts[0][1], kind)
        }
        for kind in ("positive", "negative", "spikes")
    )
    positive, negative, trains = layers
    repeated = outputs[torch.minimum(torch.arange(steps)[:, None], last), torch.arange(samples)]
    return Trace(repeated, positive, negative, settled_at(active > 0), trains)


def _laid(parts: list[tuple[Tensor, Tensor]], steps: int, samples: int) -> Tensor:
    """(step, sample, ...) int64 on the CPU; zero where a sample was left out."""
    found = torch.zeros((steps, samples, *parts[0][1].shape[2:]), dtype=torch.int64)
    done = 0
    for running, part in parts:
        place = slice(None) if len(running) == samples else running
        found[done : done + len(part), place] = part.to("cpu", torch.int64)
        done += len(part)
    return found
