"""Run a recurrent network: its parts one after another, its recurrent layers element by element."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from spikemorph.graph.traits import Recurs
from spikemorph.layers.streaming import require_forward

from .engine import Engine, Step
from .network import SpikingNetwork
from .segments import segments
from .sequences import Between, Runner, padded
from .trace import Trace, require_steps, settled_at

Build = Callable[[SpikingNetwork], Engine]
States = tuple[Between, ...]  # of every part


@dataclass
class _Record:
    """What all parts did so far: counts by qualified name, and when each sample fell silent."""

    steps: int
    positive: dict[str, Tensor] = field(default_factory=dict)
    negative: dict[str, Tensor] = field(default_factory=dict)
    spikes: dict[str, list[Tensor]] = field(default_factory=dict)
    settled: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.int64))

    def take(self, inside: str, step: Step) -> None:
        """Add the steps of a part, or of one of its elements."""
        for kind in ("positive", "negative"):
            kept: dict[str, Tensor] = getattr(self, kind)
            for name, counts in getattr(step, kind).items():
                own = padded(counts, self.steps)
                known = kept.get(f"{inside}{name}")
                kept[f"{inside}{name}"] = own if known is None else known + own
        for name, train in step.spikes.items():
            self.spikes.setdefault(f"{inside}{name}", []).append(padded(train, self.steps))
        silent = settled_at(step.active > 0).to("cpu")
        never = (silent < 0) | (self.settled < 0)
        self.settled = torch.where(never, -1, torch.maximum(silent, self.settled))

    def trains(self, bodies: Mapping[str, Recurs]) -> dict[str, Tensor]:
        """(step, sample, *shape) of every neuron layer; elements lie before *shape in bodies."""
        found = {}
        for name, parts in self.spikes.items():
            body = next((op for inside, op in bodies.items() if name.startswith(inside)), None)
            ordered = parts[::-1] if body is not None and body.reverse else parts
            found[name] = parts[0] if body is None else torch.stack(ordered, 2)
        return found


class SegmentedEngine:
    """Runs a recurrent network; a flat engine runs each of its parts.

    Every part, and every element of a recurrent layer, is given the same number of steps. With fewer
    than it needs, a state hands on what its tracer holds.

    Parameters
    ----------
    network : SpikingNetwork
        The network.
    build : callable
        ``build(network)`` makes the engine of a part.
    """

    def __init__(self, network: SpikingNetwork, build: Build) -> None:
        self.network = network
        self.parts = [Runner(part, build(part.network)) for part in segments(network)]
        self.stride = max(part.engine.stride for part in self.parts)

    def start(self, samples: int) -> States:
        """All parts at the beginning of a sequence."""
        return tuple(part.start(samples) for part in self.parts)

    def run(
        self, x: Tensor, steps: int, *, record: bool = False, lengths: Tensor | None = None
    ) -> Trace:
        """See `Engine.run`; outputs are those of the last part after each of its steps.

        Counts of a layer inside a body are those of all elements, by inner step. `lengths` (sample,)
        says how many elements each sample has; what stands behind them is not looked at.

        Raises
        ------
        InputError
            Also if there are lengths, and a part begins at the last element.
        """
        points = self.network.grid.to_integers(x)
        return self.go_on(self.start(len(x)), points, steps, lengths, record=record)[1]

    def go_on(
        self,
        states: States,
        points: Tensor,
        steps: int,
        lengths: Tensor | None = None,
        *,
        record: bool = False,
    ) -> tuple[States, Trace]:
        """Run what the network reads, (sample, *shape) int64 on its grid, from states on."""
        require_steps(steps)
        if lengths is not None:
            require_forward(self.network.graph)
        (entry,), after = self.network.graph.inputs, list[Between]()
        values, outputs = {entry: points}, points
        kept = _Record(steps, settled=torch.zeros(len(points), dtype=torch.int64))
        for part, before in zip(self.parts, states, strict=True):
            watch = partial(kept.take, part.part.inside)
            if part.part.node is not None:
                state, made = part.along(before, values, steps, lengths, record=record, watch=watch)
                values[part.part.node.name] = made
            else:
                reads = {name: values[name] for name in part.part.reads}
                state, found = part.element(before, reads, steps, record=record)
                watch(found.step)
                values.update(found.given)
                outputs = found.step.outputs.to("cpu")
            after.append(state)
        last = torch.arange(steps).clamp(max=len(outputs) - 1)
        bodies = {part.part.inside: part.op for part in self.parts if part.op is not None}
        trains = kept.trains(bodies)
        return tuple(after), Trace(
            outputs[last], kept.positive, kept.negative, kept.settled, trains
        )
