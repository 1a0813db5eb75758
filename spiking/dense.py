"""The fast engine in plain torch: all steps of a layer at once, then a scan over its neurons.

Between neurons everything is linear or a pool, so a layer's increments for many steps are one batched
product; the tracer recursion ``S := S + y`` is then a scan over the steps, elementwise. Rows (step,
sample) in which nothing was sent are left out of the products. It must equal the reference, spike for
spike, and its numbers cannot round (arithmetic.py).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from spikemorph.graph import GraphError, Input, InputError, Node
from spikemorph.graph.interpret import flow, require_rows, shapes
from spikemorph.graph.tables import on_increments, on_integers
from spikemorph.layers.affine import ScaleShift
from spikemorph.layers.convolution import Convolution
from spikemorph.layers.ladder import Ladder, along_channels
from spikemorph.layers.linear import Linear
from spikemorph.layers.pooling import accumulate

from .arithmetic import carrier, nearest_powers, probed
from .network import SpikingNetwork
from .neurons import Alphabet, Neuron
from .settling import WHOLE, membrane_peak, ranges, restless, settling
from .staircase import Staircase, staircase
from .trace import Trace, require_steps, settled_at

CHUNK = 4  # steps computed together: most samples are silent soon, and small chunks stay in caches
_CONSTANT = (Convolution, Linear, ScaleShift)  # ops that add something of their own


@dataclass(frozen=True)
class _Plan:
    """What one node needs at run time."""

    kind: torch.dtype
    stairs: Staircase | None = None
    gate: int = 1
    constant: Tensor | None = None


class DenseEngine:
    """Runs a network layer by layer, many steps at a time, on any torch device.

    Parameters
    ----------
    network : SpikingNetwork
        The network.
    device : torch.device
        Where to compute.
    most_steps : int
        The most steps a rate-coded network will be run for: its sums grow with time.

    Raises
    ------
    GraphError
        If a node's sums may pass 53 bits.
    UnsupportedError
        If an op has no meaning on increments.
    """

    def __init__(
        self,
        network: SpikingNetwork,
        device: torch.device = torch.device("cpu"),  # noqa: B008  a constant
        most_steps: int = 1024,
    ) -> None:
        self.network, self.device, self.most_steps = network, device, most_steps
        self._bounds = ranges(network, most_steps)
        known = settling(network)
        self._gates = {name: own.gate for name, own in known.items()}
        self._restless = restless(network, known)
        self._sizes = shapes(network.graph)
        require_rows(network.graph, on_increments, "add a row in layers/", but=(Ladder,))
        self._plans = {node.name: self._plan(node) for node in network.graph.nodes}

    def run(self, x: Tensor, steps: int, *, record: bool = False) -> Trace:
        """Run samples `x` (sample, *shape), real values on the grid, for `steps` steps.

        Once every sample has had a silent step, the rest is known and not computed.

        Raises
        ------
        InputError
            If there is no step, a value is outside the input grid, or a rate-coded network is to run
            for more steps than the engine was made for.
        """
        require_steps(steps)
        if self.network.rate_coded and steps > self.most_steps:
            raise InputError(
                f"{steps} steps of a rate-coded network: this engine's numbers are exact for "
                f"{self.most_steps}; make it with most_steps={steps}"
            )
        points = self.network.grid.to_integers(x).to(self.device)
        return _Run(self, points, record).to_end(steps)

    def _plan(self, node: Node) -> _Plan:
        op, bound = node.op, self._bounds[node.name]
        kind = carrier(bound, self.device, node.name)
        if isinstance(op, Ladder):
            source, neuron = self._bounds[node.inputs[0]], self.network.neuron[node.name]
            if membrane_peak(op, neuron, source, bound) >= WHOLE:
                raise GraphError(
                    f"node {node.name!r}: its membrane potential may pass 63 bits; use fewer weight "
                    "bits or a coarser input grid"
                )
            coming = self._kind_of(node.inputs[0])
            stairs = staircase(op, source, coming, capped=neuron.capped)
            return _Plan(kind, stairs, self._gates[node.name])
        if not isinstance(op, _CONSTANT):
            return _Plan(kind)
        (source_name,) = node.inputs
        shape = self._sizes[source_name]
        kind = probed(op, [self._bounds[source_name]], shape, kind, self.device)
        zero = torch.zeros((1, *shape), dtype=torch.int64)
        constant = on_integers[type(op)](op, zero).to(self.device, kind)
        return _Plan(kind, constant=constant)

    def _kind_of(self, name: str) -> torch.dtype:
        return carrier(self._bounds[name], self.device, name)


class _Run:
    """One batch on its way through time; holds what is carried from chunk to chunk."""

    def __init__(self, engine: DenseEngine, points: Tensor, record: bool) -> None:
        self.engine, self.points, self.record = engine, points, record
        self.network = engine.network
        self.sums: dict[str, Tensor] = {}  # what an accumulating node has read or made so far
        self.tracers: dict[str, Tensor] = {}
        self.done = 0
        self.outputs: list[Tensor] = []
        self.active: list[Tensor] = []
        self.trains: dict[str, list[Tensor]] = {}
        self.counts: dict[str, list[tuple[Tensor, Tensor]]] = {}

    def to_end(self, steps: int) -> Trace:
        while self.done < steps:
            self._chunk(min(CHUNK, steps - self.done))
            if not bool(self.active[-1][-1].any()):
                break
        return self._trace(steps)

    def _chunk(self, steps: int) -> None:
        network = self.network
        active = torch.zeros((steps, len(self.points)), dtype=torch.bool, device=self.points.device)

        def compute(node: Node, *sources: Tensor) -> Tensor:
            if isinstance(node.op, Input):
                return self._inject(node, active)
            if isinstance(node.op, Ladder):
                spikes = self._fire(node, sources[0])
                active.logical_or_(self._count(node.name, spikes))
                return spikes
            return self._pass_on(node, list(sources))

        edges = flow(network.graph, compute)
        (last,) = [edge for node, edge in edges if node.name == network.graph.outputs[0]]
        out = last.to(torch.int64).cumsum(0)
        self.outputs.append(out + self.outputs[-1][-1] if self.outputs else out)
        self._note_activity(active, steps)
        self.done += steps

    def _inject(self, node: Node, active: Tensor) -> Tensor:
        """What enters, (step, sample, ...); samples that receive something are marked active."""
        when = range(self.done + 1, self.done + len(active) + 1)
        coding, grid = self.network.coding, self.network.grid
        out = torch.stack([coding.at(self.points, step, grid) for step in when])
        active.logical_or_(out.flatten(2).ne(0).any(2))
        return out.to(self.engine._plans[node.name].kind)

    def _pass_on(self, node: Node, sources: list[Tensor]) -> Tensor:
        """Increments through a node that is no neuron, (step, sample, ...)."""
        plan, row = self.engine._plans[node.name], on_increments[type(node.op)]
        sources = [source.to(plan.kind) for source in sources]
        if row is accumulate:
            return self._accumulate(node, sources[0])
        steps = len(sources[0])
        flat = [source.flatten(0, 1) for source in sources]
        if isinstance(node.op, Convolution | Linear):
            out = _on_busy_rows(node.op, flat[0], self.engine._sizes[node.name])
        else:
            out = row(node.op, *flat)
        out = out.unflatten(0, (steps, -1))
        if plan.constant is not None and (self.done == 0 or self.network.rate_coded):
            last = steps if self.network.rate_coded else 1
            out[:last] += plan.constant
        return out

    def _accumulate(self, node: Node, increments: Tensor) -> Tensor:
        """Form sums, compute on them, and pass on by how much the result changed."""
        row, steps = on_integers[type(node.op)], len(increments)
        before = self.sums.get(node.name, torch.zeros_like(increments[0]))
        sums = torch.cat([before[None], increments]).cumsum(0)
        self.sums[node.name] = sums[-1]
        out = row(node.op, sums.flatten(0, 1)).unflatten(0, (steps + 1, -1))
        return out.diff(dim=0)

    def _fire(self, node: Node, increments: Tensor) -> Tensor:
        """The spikes of one neuron layer, (step, sample, ...), from its input's increments."""
        op, plan = node.op, self.engine._plans[node.name]
        neuron = self.network.neuron[node.name]
        assert isinstance(op, Ladder) and plan.stairs is not None
        sums = self._running_sums(node.name, increments)
        flat = plan.stairs(sums.flatten(0, 1)).unflatten(0, sums.shape[:2])
        levels = flat.to(plan.kind)
        floors = _retraction_floor(op, neuron, sums)
        tracer = self.tracers.get(node.name, torch.zeros_like(levels[0]))
        spikes = torch.empty_like(levels)
        for k in range(len(levels)):
            since = self.done + k + 1 - plan.gate
            if since < 0:
                spikes[k] = 0
                continue
            residual = levels[k] - tracer
            if floors is not None:
                residual = torch.where((residual < 0) & (floors[k] > tracer), 0, residual)
            spikes[k] = _spikes(neuron, residual, since)
            tracer = tracer + spikes[k]
        self.tracers[node.name] = tracer
        return spikes

    def _running_sums(self, name: str, increments: Tensor) -> Tensor:
        """All that a node has received after each step; carried on from chunk to chunk."""
        running = self.sums.get(name, torch.zeros_like(increments[0]))
        sums = torch.empty_like(increments)
        for k in range(len(sums)):
            running = torch.add(running, increments[k], out=sums[k])
        self.sums[name] = running.clone()
        return sums

    def _count(self, name: str, spikes: Tensor) -> Tensor:
        """Note a layer's spikes; (step, sample) whether any was sent."""
        flat = spikes.flatten(2)  # whole numbers: cut to 0 and 1, they count themselves
        positive, negative = flat.clamp(0, 1).sum(2), -flat.clamp(-1, 0).sum(2)
        self.counts.setdefault(name, []).append((positive, negative))
        if self.record:
            self.trains.setdefault(name, []).append(spikes.to("cpu", torch.int64))
        return (positive + negative) > 0

    def _note_activity(self, active: Tensor, steps: int) -> None:
        """What may still happen by the clock alone is activity too."""
        restless = self.engine._restless
        until = self.done + steps if restless is None else restless
        active[: max(0, until - self.done)] = True
        self.active.append(active)

    def _trace(self, steps: int) -> Trace:
        outputs = _extended(torch.cat(self.outputs), steps, repeat=True)
        counts = {
            name: tuple(_extended(torch.cat(part), steps) for part in zip(*parts, strict=True))
            for name, parts in self.counts.items()
        }
        trains = {name: _extended(torch.cat(parts), steps) for name, parts in self.trains.items()}
        settled = settled_at(torch.cat(self.active)).cpu()
        positive = {name: pair[0] for name, pair in counts.items()}
        negative = {name: pair[1] for name, pair in counts.items()}
        return Trace(outputs, positive, negative, settled, trains)


def _on_busy_rows(op: Convolution | Linear, rows: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Products of the rows that are not all zero; the others' are zero."""
    busy = rows.flatten(1).ne(0).any(1)
    if bool(busy.all()):
        return op.products(rows)
    out = torch.zeros((len(rows), *shape), dtype=rows.dtype, device=rows.device)
    if bool(busy.any()):
        out[busy] = op.products(rows[busy])
    return out


def _spikes(neuron: Neuron, residual: Tensor, since: int) -> Tensor:
    if neuron.alphabet is Alphabet.DESCENDING:
        unit = 1 << max(0, neuron.bits - 1 - since)
        return (residual >= unit).to(residual.dtype) * unit
    if neuron.alphabet is Alphabet.POWERS:
        return nearest_powers(residual.to(torch.float32)).to(residual.dtype)
    low = None if neuron.down is None else -neuron.down
    return residual if low is None and neuron.up is None else residual.clamp(low, neuron.up)


def _retraction_floor(op: Ladder, neuron: Neuron, sums: Tensor) -> Tensor | None:
    """With a negative margin: the least tracer from which a spike may be taken back, else None.

    ``V <= -margin theta`` with ``V = scale C + start - theta S`` is ``S >= (scale C + start) / theta
    + margin``.
    """
    if neuron.negative_margin == 0 or op.line is None:
        return None
    line, margin = op.line, neuron.negative_margin
    flat = sums.flatten(0, 1).long()
    threshold, scale, start = (
        along_channels(t, flat) for t in (line.threshold, line.scale, line.start)
    )
    top = (flat * scale + start) * margin.denominator + margin.numerator * threshold
    least = -torch.div(-top, threshold * margin.denominator, rounding_mode="floor")
    return least.unflatten(0, sums.shape[:2]).to(sums.dtype)


def _extended(values: Tensor, steps: int, *, repeat: bool = False) -> Tensor:
    """(step, ...) on the CPU, int64, carried on to `steps`: by its last row, or by zeros."""
    values = values.to("cpu", torch.int64)
    missing = steps - len(values)
    if missing <= 0:
        return values
    last = values[-1:] if repeat else torch.zeros_like(values[-1:])
    return torch.cat([values, last.expand(missing, *last.shape[1:])])
