"""Count exactly what a recurrent network does, part by part and element by element.

An event crosses into a recurrent layer where it was sent: what a register holds are the spikes that its
neuron sent at the element before, so they reach the recurrent weights once, and one element late.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace

import torch
from torch import Tensor

from spikemorph.graph import Graph
from spikemorph.graph.batches import HELD, samples_within
from spikemorph.graph.interpret import shapes
from spikemorph.spiking import SpikingNetwork
from spikemorph.spiking.engine import Step
from spikemorph.spiking.engines import engine_for
from spikemorph.spiking.network import Carry
from spikemorph.spiking.segmented import SegmentedEngine
from spikemorph.spiking.sequences import Runner, padded

from .counts import Counts, ElementCounts
from .edge_values import Edges
from .layer_facts import Site, sites
from .tallies import (
    Seen,
    Tally,
    add,
    gathered,
    set_bits,
    tally_constants,
    tally_time,
    tally_twin,
    work,
)

_OF_ALL_ELEMENTS = ("mac_dense", "mac_masked", "adds_dense", "scalings_dense")
_BY_ELEMENT = tuple(f.name for f in fields(ElementCounts) if f.name not in ("node", "mac_masked"))
_SYNOPS = ("synops_unit", "synops_shifted", "synops_graded")


@dataclass
class _Part:
    """One part of a network, and what is gathered of it over all batches."""

    runner: Runner
    steps: int
    edges: Edges
    known: Mapping[str, Site]
    seen: dict[str, Seen]
    elements: int
    tallies: dict[str, Tally] = field(default_factory=dict)
    held: dict[str, tuple[Tensor, ...]] = field(default_factory=dict)
    before: dict[str, tuple[Tensor, ...]] = field(default_factory=dict)  # what nodes read before
    by_element: dict[str, list[int]] = field(default_factory=dict)

    @property
    def inside(self) -> str:
        return self.runner.part.inside

    def begin(self) -> None:
        """A new batch, at rest."""
        self.tallies = {name: {} for name in self.known}
        self.held, self.before = {}, {}

    def take(
        self, entering: Mapping[str, Tensor], points: Tensor, step: Step, *, first: bool
    ) -> dict[str, Tensor]:
        """Count one element; the increments of all nodes that others read, (step, sample, *shape)."""
        trains = {name: padded(train, self.steps) for name, train in step.spikes.items()}
        for visit in self.edges.at_once(points, self.steps):
            if (name := visit[0].name) in self.known:
                tally_twin(self.known[name], visit, self.tallies[name])
                self._changed(name, visit[1])
        carries = self.runner.part.network.carry is Carry.DELTA
        held = self.held if carries else {}
        given = {}
        for visit in self.edges.flowing(entering, trains, held):
            name = visit[0].name
            if name in self.runner.part.gives:
                given[name] = visit[2]
            if name in self.known:
                own = self.tallies[name]
                tally_time(self.known[name], visit, own, self.seen[name], self.steps)
                times = 1 if first or not carries else 0
                tally_constants(self.known[name], times, own, len(points))
        return given

    def _changed(self, name: str, sources: tuple[Tensor, ...]) -> None:
        """The twin's work on what is not as it was at the element before."""
        reach, old, tally = self.known[name].reach, self.before.get(name), self.tallies[name]
        for index, source in enumerate(sources):
            change = source if old is None else source - old[index]
            moved = change != 0
            for kind, maps in (
                ("mac_changed", reach.masked), ("mac_changed_dense_weights", reach.dense),
                ("adds_changed", reach.adds), ("scalings_changed", reach.scalings),
            ):  # fmt: skip
                if maps:
                    add(tally, kind, work(moved, maps[index]))
            if reach.masked:
                add(tally, "mac_changed_bits", work(set_bits(change), reach.masked[index]))
                add(tally, "changed_inputs", moved.flatten(1).sum(1))
        if reach.once:
            add(tally, "scalings_changed", torch.full((len(sources[0]),), reach.once))
        self.before[name] = sources

    def total(self, name: str) -> int:
        """What all nodes did so far in this batch, of one count."""
        names = _SYNOPS if name == "synops" else (name,)
        found = (tally[own] for tally in self.tallies.values() for own in names if own in tally)
        return sum(int(own.sum()) for own in found)

    def end(self) -> None:
        for name, tally in self.tallies.items():
            self.seen[name].tallies.append(tally)


def count_along(network: SpikingNetwork, x: Tensor, steps: int) -> Counts:
    """As `count`, of a recurrent network whose every part and element is given so many steps."""
    engine = engine_for(network, most_steps=steps, name="dense")
    assert isinstance(engine, SegmentedEngine)
    parts = [_part(network, runner, steps) for runner in engine.parts]
    widest = sum(site.still.neurons for part in parts for site in part.known.values())
    longest = max(part.elements for part in parts)
    for batch in x.split(samples_within(HELD, steps * max(widest, 1) * longest // 4 + 1)):
        _batch(network, parts, batch)
    known = {f"{p.inside}{name}": _along(p, site) for p in parts for name, site in p.known.items()}
    seen = {f"{p.inside}{name}": own for p in parts for name, own in p.seen.items()}
    along = tuple(_by_element(part) for part in parts if part.runner.op is not None)
    return replace(gathered(known, seen, len(x), steps), along=along)


def _by_element(part: _Part) -> ElementCounts:
    one = sum(site.still.mac_masked for site in part.known.values())
    found = {name: tuple(own) for name, own in part.by_element.items()}
    return ElementCounts(part.inside.removesuffix("/"), mac_masked=one, **found)


def _part(network: SpikingNetwork, runner: Runner, steps: int) -> _Part:
    part = runner.part
    own: Graph = network.graph if runner.op is None else runner.op.body
    named = dict(zip(part.network.graph.inputs, part.reads, strict=False))
    spiking = [n for n in part.network.graph.inputs if named.get(n) not in network.graph.inputs]
    found = sites(part.network, steps, spiking)
    # What joins the outputs of a part is not there in the network.
    known = {name: site for name, site in found.items() if name in own}
    elements = 1
    if runner.op is not None:
        elements = shapes(network.graph)[part.reads[0]][runner.op.axis - 1]
    return _Part(
        runner,
        steps,
        Edges(part.network, steps),
        known,
        {n: Seen([], {0}) for n in known},
        elements,
        by_element={name: [0] * elements for name in _BY_ELEMENT},
    )


def _batch(network: SpikingNetwork, parts: list[_Part], x: Tensor) -> None:
    points = network.grid.to_integers(x)
    (entry,) = network.graph.inputs
    values = {entry: points}
    trains = {entry: _at_once(points, parts[0].steps)}
    for part in parts:
        part.begin()
        (_once if part.runner.op is None else _elements)(part, values, trains)
        part.end()


def _once(part: _Part, values: dict[str, Tensor], trains: dict[str, Tensor]) -> None:
    """A part that runs once."""
    runner = part.runner
    reads = {name: values[name] for name in runner.part.reads}
    start = runner.start(len(next(iter(reads.values()))))
    _, made = runner.element(start, reads, part.steps, record=True)
    entering = {name: _arriving(trains[name], value) for name, value in reads.items()}
    trains.update(part.take(entering, runner.part.packed(reads), made.step, first=True))
    values.update(made.given)


def _elements(part: _Part, values: dict[str, Tensor], trains: dict[str, Tensor]) -> None:
    """A body, element by element."""
    runner, op = part.runner, part.runner.op
    assert op is not None and runner.part.node is not None
    pairs = list(zip(op.body.inputs, runner.part.reads, strict=True))
    first = values[pairs[0][1]]
    between, count = runner.start(len(first)), first.shape[op.axis]
    late = {name: _at_once(start, part.steps) for name, start in between.registers.items()}
    sent, made, old = list[Tensor](), list[Tensor](), dict[str, Tensor]()
    carries = runner.part.network.carry is Carry.DELTA
    for index in range(count)[:: -1 if op.reverse else 1]:
        reads = {name: values[source].select(op.axis, index) for name, source in pairs}
        entering = {}
        for name, source in pairs:
            wanted = reads[name] - old[name] if carries and old else reads[name]
            coming = trains[source].select(op.axis + 1, index)
            entering[name] = _arriving(coming, wanted)
        full = {**reads, **between.registers}
        between, found = runner.element(between, reads, part.steps, record=True)
        done = {name: part.total(name) for name in _BY_ELEMENT}
        given = part.take(entering | late, runner.part.packed(full), found.step, first=not old)
        for name, before in done.items():
            part.by_element[name][index] += part.total(name) - before
        late = {r.name: (given | entering)[r.after] for r in op.body.registers}
        old = reads
        sent.append(given[op.body.outputs[0]])
        made.append(found.given[op.body.outputs[0]])
    order = -1 if op.reverse else 1
    trains[runner.part.node.name] = torch.stack(sent[::order], 2).movedim(2, op.axis + 1)
    values[runner.part.node.name] = torch.stack(made[::order], 1).movedim(1, op.axis)


def _arriving(coming: Tensor, wanted: Tensor) -> Tensor:
    """Events (step, sample, *shape) that sum to what is wanted: those that were sent, if they do.

    Spikes are of the whole value, or, where a layer before carries its sums on, of its change; of
    neither is a change of what was sent whole, or a whole of what came in changes: that is taken at once.
    """
    return coming if torch.equal(coming.sum(0), wanted) else _at_once(wanted, len(coming))


def _at_once(points: Tensor, steps: int) -> Tensor:
    """(step, sample, *shape) what enters all at the first step."""
    found = torch.zeros((steps, *points.shape), dtype=torch.int64)
    found[0] = points
    return found


def _along(part: _Part, site: Site) -> Site:
    """A site whose fixed counts are those of all elements, under its qualified name."""
    times = part.elements
    fixed = {name: times * getattr(site.still, name) for name in _OF_ALL_ELEMENTS}
    name = f"{part.inside}{site.still.node}"
    return replace(site, still=replace(site.still, node=name, elements=times, **fixed))
