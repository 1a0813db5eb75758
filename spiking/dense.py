"""The fast engine in plain torch: all steps of a layer at once, then a scan over its neurons.

Between neurons everything is linear or a pool, so a layer's increments for many steps are one batched
product (increments.py); the tracer recursion ``S := S + y`` is then a scan over the steps, elementwise.
It must equal the reference, spike for spike, and its numbers cannot round (compiled.py).
"""

import torch
from torch import Tensor

from spikemorph.graph import Input, InputError, Node
from spikemorph.graph.interpret import flow

from .compiled import Compiled, Layer
from .engine import State, Step, run
from .increments import Held, nonzero, running_sums
from .network import SpikingNetwork
from .neurons import Alphabet, Neuron, nearest_powers
from .trace import Trace

MOST_COUNTED = 2**24  # what a float32 counts to
CHUNK = 2  # steps taken together: few, since samples settle soon, and fit the caches


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
        If a node's sums may pass 62 bits, or a membrane potential 63.
    UnsupportedError
        If an op has no meaning on increments.
    """

    stride, stops = CHUNK, True

    def __init__(
        self,
        network: SpikingNetwork,
        device: torch.device = torch.device("cpu"),  # noqa: B008  a constant
        most_steps: int = 1024,
    ) -> None:
        self.network, self.device, self.most_steps = network, device, most_steps
        self.compiled = Compiled(network, device, most_steps)

    def start(self) -> State:
        """The network at rest."""
        return State()

    def run(self, x: Tensor, steps: int, *, record: bool = False) -> Trace:
        """See `Engine.run`.

        Once every sample has had a silent step, the rest is known and not computed.

        Raises
        ------
        InputError
            Also if a rate-coded network is to run for more steps than the engine was made for.
        """
        if self.network.rate_coded and steps > self.most_steps:
            raise InputError(
                f"{steps} steps of a rate-coded network: this engine's numbers are exact for "
                f"{self.most_steps}; make it with most_steps={steps}"
            )
        return run(self, x, steps, record=record)

    def step(
        self, state: State, points: Tensor, count: int = 1, *, record: bool = False
    ) -> tuple[State, Step]:
        """See `Engine.step`.

        A neuron layer holds the sums that it has read and its tracer, the input nothing, the read-out
        its sums, and other nodes what they need (`Passage`).
        """
        stretch = _Stretch(self.compiled, state, points.to(self.device), count, record)
        return stretch.to_end()


class _Stretch:
    """Some steps of one batch on their way through the layers."""

    def __init__(
        self, compiled: Compiled, state: State, points: Tensor, count: int, record: bool
    ) -> None:
        self.compiled, self.state, self.points, self.record = compiled, state, points, record
        self.when = range(state.done + 1, state.done + 1 + count)
        self.held: dict[str, Held] = {}
        self.positive: dict[str, Tensor] = {}
        self.negative: dict[str, Tensor] = {}
        self.spikes: dict[str, Tensor] = {}
        self.active = torch.zeros((count, len(points)), dtype=torch.bool, device=points.device)

    def to_end(self) -> tuple[State, Step]:
        network = self.compiled.network
        (wanted,) = network.graph.outputs
        (last,) = [edge for node, edge in flow(network.graph, self._node) if node.name == wanted]
        before = self.state.held.get(wanted)
        outputs = last.to(torch.int64).cumsum(0)
        outputs = outputs if before is None else outputs + before[-1]
        self.held[wanted] = (*self.held[wanted], outputs[-1])
        restless = self.compiled.restless
        pending = self.when.stop if restless is None else restless + 1
        self.active[: max(0, pending - self.when.start)] = True
        step = Step(outputs, self.positive, self.negative, self.active, self.spikes)
        return State(self.when.stop - 1, self.held), step

    def _node(self, node: Node, *sources: Tensor) -> Tensor:
        if isinstance(node.op, Input):
            return self._inject(node.name)
        held = self.state.held.get(node.name)
        if node.name in self.compiled.layers:
            return self._fire(node.name, held, sources[0])
        passage = self.compiled.passages[node.name]
        self.held[node.name], out = passage(held, *sources)
        return out

    def _inject(self, name: str) -> Tensor:
        """What enters, (step, sample, ...); samples that receive something are marked active."""
        network = self.compiled.network
        out = torch.stack([network.injected(name, self.points, k) for k in self.when])
        self.active.logical_or_(nonzero(out.flatten(2)))
        return out.to(self.compiled.kinds[name])

    def _fire(self, name: str, held: Held | None, increments: Tensor) -> Tensor:
        """The spikes of one neuron layer, (step, sample, ...), from its input's increments."""
        layer = self.compiled.layers[name]
        total = torch.zeros_like(increments[0]) if held is None else held[0]
        sums = running_sums(total, increments)
        levels = layer.stairs(sums.flatten(0, 1)).unflatten(0, sums.shape[:2]).to(layer.kind)
        tracer = torch.zeros_like(levels[0]) if held is None else held[1]
        spikes, tracer = _scan(layer, self.when, levels, tracer, sums)
        self.held[name] = (sums[-1], tracer)
        self._count(name, spikes)
        return spikes

    def _count(self, name: str, spikes: Tensor) -> None:
        """Note a layer's spikes, and who sent them."""
        signs = spikes.flatten(2).sign()  # whole numbers: they count themselves
        if signs.shape[2] >= MOST_COUNTED:
            signs = signs.double()
        surplus = signs.sum(2)
        both = signs.abs_().sum(2)
        self.positive[name], self.negative[name] = (both + surplus) / 2, (both - surplus) / 2
        self.active.logical_or_(both > 0)
        if self.record:
            self.spikes[name] = spikes


def _scan(
    layer: Layer, when: range, levels: Tensor, tracer: Tensor, sums: Tensor
) -> tuple[Tensor, Tensor]:
    """The spikes (step, sample, ...) towards the levels, and the tracer after them."""
    floors = layer.retraction_floor(sums.flatten(0, 1))
    spikes, tracer = torch.empty_like(levels), tracer.clone()
    for k, step in enumerate(when):
        since = step - layer.gate
        if since < 0:
            spikes[k] = 0
            continue
        residual = torch.sub(levels[k], tracer, out=spikes[k])
        if floors is not None:
            floor = floors.unflatten(0, levels.shape[:2])[k]
            residual[(residual < 0) & (floor > tracer)] = 0
        sent = _spikes(layer.neuron, residual, since)
        if sent is not residual:
            residual.copy_(sent)
        tracer += residual
    return spikes, tracer


def _spikes(neuron: Neuron, residual: Tensor, since: int) -> Tensor:
    """The spikes that answer residuals, which may be written over."""
    if neuron.alphabet is Alphabet.DESCENDING:
        unit = 1 << max(0, neuron.bits - 1 - since)
        return (residual >= unit) * unit
    if neuron.alphabet is Alphabet.POWERS:
        if residual.dtype is torch.float32:
            nearest_powers(residual, out=residual)
            return residual
        return nearest_powers(residual.to(torch.float32))
    if neuron.up is not None or neuron.down is not None:
        residual.clamp_(None if neuron.down is None else -neuron.down, neuron.up)
    return residual
