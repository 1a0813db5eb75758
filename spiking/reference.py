"""The definition of the spiking network: one step after another, one neuron layer after another.

Slow, plain, never optimised. Every edge carries the running sum of all that was sent over it. A node
that is no neuron computes its sum from the sums it reads; what changed since the last step is the
current of the neurons behind it. A neuron integrates its current on its membrane potential, fires, and
is reset by what it fired (soft reset). Integers only.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from spikemorph.graph import Input, Node
from spikemorph.graph.brief import brief
from spikemorph.graph.interpret import integer_compute
from spikemorph.layers.ladder import Ladder, Line, along_channels, climb

from .engine import State, Step, run
from .increments import Held
from .network import SpikingNetwork
from .neurons import Neuron
from .settling import restless, settling
from .trace import Trace


class Membrane(NamedTuple):
    """A neuron layer's state: potential V, in units of 1 / scale; tracer S; sum C of all input."""

    potential: Tensor
    tracer: Tensor
    total: Tensor

    def __repr__(self) -> str:
        return f"Membrane{brief(tuple(self))}"


def rest(op: Ladder, shape: torch.Size) -> Membrane:
    """The state before the first step: ``V = V0``, nothing sent, nothing received."""
    zero = torch.zeros(shape, dtype=torch.int64)
    start = zero if op.line is None else along_channels(op.line.start, zero).expand(shape)
    return Membrane(start.clone(), zero, zero)


def fire(
    op: Ladder, neuron: Neuron, state: Membrane, current: Tensor, since: int | None
) -> tuple[Membrane, Tensor]:
    """One step of one neuron layer: integrate, fire, reset.

    ``V := V + scale * I``; ``r = floor(V / theta)``, clipped so that ``S + r`` stays on the ladder; the
    spike y is the one nearest to r; ``V := V - theta y``; ``S := S + y``. A ladder that is not evenly
    spaced compares the sum C itself with its rungs. `since` counts the steps since the gate opened,
    None while it is closed.
    """
    total = state.total + current
    if op.line is None:
        potential = state.potential
        level = climb(op, total)
    else:
        potential = state.potential + along_channels(op.line.scale, current) * current
        level = state.tracer + torch.div(
            potential, along_channels(op.line.threshold, current), rounding_mode="floor"
        )
    level = level.clamp(op.smin, op.smax if neuron.capped else None)
    residual = level - state.tracer
    if neuron.negative_margin > 0 and op.line is not None:
        deep = _deep(op.line, neuron, potential)
        residual = torch.where((residual < 0) & ~deep, 0, residual)
    spikes = torch.zeros_like(total) if since is None else _spikes(neuron, residual, since)
    if op.line is not None:
        potential = potential - along_channels(op.line.threshold, spikes) * spikes
    return Membrane(potential, state.tracer + spikes, total), spikes


def _deep(line: Line, neuron: Neuron, potential: Tensor) -> Tensor:
    margin = neuron.negative_margin
    threshold = along_channels(line.threshold, potential)
    return potential * margin.denominator <= -margin.numerator * threshold


def _spikes(neuron: Neuron, residual: Tensor, since: int) -> Tensor:
    """Every residual's spike, looked up in a table made by `Neuron.spike`."""
    low, high = int(residual.min()), int(residual.max())
    levels = [neuron.spike(r, since) for r in range(low, high + 1)]
    table = torch.tensor(levels, device=residual.device)
    return table[residual - low]


class ReferenceEngine:
    """Runs a network by its definition, one step at a time, to the last step that was asked for."""

    stride, stops = 1, False

    def __init__(self, network: SpikingNetwork) -> None:
        self.network = network
        self._compute = integer_compute(network.graph)
        known = settling(network)
        self._gates = {name: own.gate for name, own in known.items()}
        self._restless = restless(network, known)

    def start(self) -> State:
        """The network at rest."""
        return State()

    def run(self, x: Tensor, steps: int, *, record: bool = False) -> Trace:
        """See `Engine.run`."""
        return run(self, x, steps, record=record)

    def step(
        self, state: State, points: Tensor, count: int = 1, *, record: bool = False
    ) -> tuple[State, Step]:
        """See `Engine.step`; every node holds its sum, a neuron layer its `Membrane`."""
        outputs, active = list[Tensor](), list[Tensor]()
        sent: dict[str, list[Tensor]] = {node.name: [] for node in self.network.ladders()}
        for _ in range(count):
            state, out, busy, spikes = self._one(state, points)
            outputs.append(out)
            active.append(busy)
            for name, own in spikes.items():
                sent[name].append(own)
        trains = {name: torch.stack(spikes) for name, spikes in sent.items()}
        positive = {name: (t > 0).flatten(2).sum(2) for name, t in trains.items()}
        negative = {name: (t < 0).flatten(2).sum(2) for name, t in trains.items()}
        kept = trains if record else {}
        return state, Step(torch.stack(outputs), positive, negative, torch.stack(active), kept)

    def _one(
        self, state: State, points: Tensor
    ) -> tuple[State, Tensor, Tensor, Mapping[str, Tensor]]:
        """One step: the state after it, the outputs, who was active, and every layer's spikes."""
        network, step = self.network, state.done + 1
        injected: dict[str, Tensor] = {}
        sums: dict[str, Tensor] = {}
        held: dict[str, Held] = {}
        sent: dict[str, Tensor] = {}
        for node in network.graph.nodes:
            before = state.held.get(node.name)
            if isinstance(node.op, Input):
                new = injected[node.name] = network.injected(node.name, points, step)
                sums[node.name] = new if before is None else before[0] + new
            elif isinstance(node.op, Ladder):
                after, sent[node.name] = self._fire(node, step, sums[node.inputs[0]], before)
                held[node.name], sums[node.name] = after, after.tracer
                continue
            else:
                sums[node.name] = self._sum(node, step, sums)
            held[node.name] = (sums[node.name],)
        active = self._active(step, [*injected.values(), *sent.values()])
        return State(step, held), sums[network.graph.outputs[0]], active, sent

    def _fire(
        self, node: Node, step: int, source: Tensor, before: Held | None
    ) -> tuple[Membrane, Tensor]:
        op = node.op
        assert isinstance(op, Ladder)
        state = rest(op, source.shape) if before is None else Membrane(*before)
        current = source - state.total
        open_for = step - self._gates[node.name]
        since = open_for if open_for >= 0 else None
        return fire(op, self.network.neuron[node.name], state, current, since)

    def _sum(self, node: Node, step: int, sums: Mapping[str, Tensor]) -> Tensor:
        """A node's sum from those it reads; a bias counts once, or once a step where inputs repeat."""
        inputs = [sums[name] for name in node.inputs]
        out = self._compute(node, *inputs)
        if self.network.rate_coded and node.op.adds:
            out = out + (step - 1) * self._compute(node, *(torch.zeros_like(i) for i in inputs))
        return out

    def _active(self, step: int, moved: Sequence[Tensor]) -> Tensor:
        """(sample,) whether anything happened, or may still happen by the clock alone."""
        active = torch.stack([events.flatten(1).ne(0).any(1) for events in moved]).any(0)
        return active | (self._restless is None or step <= self._restless)
