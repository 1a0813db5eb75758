"""Run a recurrent network: its parts one after another, its recurrent layers element by element."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from spikemorph.graph.traits import Recurs

from .engine import Engine, State, Step
from .network import SpikingNetwork
from .segments import Segment, segments
from .sequences import Elements, settle
from .trace import Trace, require_steps, settled_at

Build = Callable[[SpikingNetwork], Engine]


@dataclass
class _Record:
    """What all parts did so far: counts by qualified name, and when each sample fell silent."""

    steps: int
    samples: int
    positive: dict[str, Tensor] = field(default_factory=dict)
    negative: dict[str, Tensor] = field(default_factory=dict)
    spikes: dict[str, list[Tensor]] = field(default_factory=dict)
    settled: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.int64))

    def take(self, inside: str, step: Step) -> None:
        """Add the steps of a part, or of one of its elements."""
        for kind in ("positive", "negative"):
            kept: dict[str, Tensor] = getattr(self, kind)
            for name, counts in getattr(step, kind).items():
                padded = self._padded(counts)
                known = kept.get(f"{inside}{name}")
                kept[f"{inside}{name}"] = padded if known is None else known + padded
        for name, train in step.spikes.items():
            self.spikes.setdefault(f"{inside}{name}", []).append(self._padded(train))
        own = settled_at(step.active > 0).to("cpu")
        ever = (own < 0) | (self.settled < 0)
        self.settled = torch.where(ever, -1, torch.maximum(own, self.settled))

    def _padded(self, part: Tensor) -> Tensor:
        """(step, sample, ...) int64 on the CPU: after its last step nothing is sent."""
        found = torch.zeros((self.steps, *part.shape[1:]), dtype=torch.int64)
        found[: len(part)] = part.to("cpu", torch.int64)
        return found

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
        self._parts = [(part, build(part.network)) for part in segments(network)]
        self.stride = max(engine.stride for _, engine in self._parts)

    def run(self, x: Tensor, steps: int, *, record: bool = False) -> Trace:
        """See `Engine.run`; outputs are those of the last part after each of its steps.

        Counts of a layer inside a body are those of all elements, by inner step.
        """
        require_steps(steps)
        graph = self.network.graph
        (entry,), (wanted,) = graph.inputs, graph.outputs
        values = {entry: self.network.grid.to_integers(x)}
        kept = _Record(steps, len(x), settled=torch.zeros(len(x), dtype=torch.int64))
        outputs = torch.zeros(0)
        for part, engine in self._parts:
            if part.node is not None:
                values[part.node.name] = _along(part, engine, values, kept, record)
                continue
            step = _once(part, engine, values, kept, record)
            values.update(part.given(step.outputs[-1].to("cpu")))
            outputs = step.outputs.to("cpu")
        last = torch.arange(steps).clamp(max=len(outputs) - 1)
        bodies = {part.inside: part.node.op for part, _ in self._parts if part.node is not None}
        trains = kept.trains({name: op for name, op in bodies.items() if isinstance(op, Recurs)})
        assert wanted in values
        return Trace(outputs[last], kept.positive, kept.negative, kept.settled, trains)


def _once(
    part: Segment, engine: Engine, values: Mapping[str, Tensor], kept: _Record, record: bool
) -> Step:
    """A part that runs once, all at rest."""
    points = values[part.reads[0]]
    if len(part.reads) > 1:
        points = torch.cat([values[name].flatten(1) for name in part.reads], 1)
    _, step = settle(engine, State(), points, kept.steps, record=record)
    kept.take(part.inside, step)
    return step


def _along(
    part: Segment, engine: Engine, values: Mapping[str, Tensor], kept: _Record, record: bool
) -> Tensor:
    """What leaves a recurrent layer, (sample, *shape) int64, its elements along its axis."""
    elements = Elements(part, engine)
    op = elements.op
    pairs = zip(op.body.inputs, part.reads, strict=True)
    reads = {name: values[source].movedim(op.axis, 1) for name, source in pairs}
    count = next(iter(reads.values())).shape[1]
    between, made = elements.start(kept.samples), list[Tensor]()
    for index in range(count)[:: -1 if op.reverse else 1]:
        element = {name: x.select(1, index) for name, x in reads.items()}
        between, found = elements.element(between, element, kept.steps, record=record)
        kept.take(part.inside, found.step)
        made.append(found.given[op.body.outputs[0]])
    return torch.stack(made[::-1] if op.reverse else made, 1).movedim(1, op.axis)
