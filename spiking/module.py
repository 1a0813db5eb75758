"""A spiking network as a torch module, a child a node: for hooks, devices and loops of one's own."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, replace
from itertools import accumulate, chain
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from spikemorph.graph import Input, InputError, Node
from spikemorph.graph.brief import brief
from spikemorph.graph.errors import Setting
from spikemorph.graph.interpret import flow
from spikemorph.graph.records import Record
from spikemorph.graph.tables import on_integers
from spikemorph.layers.carriers import float_carrier
from spikemorph.layers.ladder import Ladder

from .bounds import ranges
from .engine import State
from .increments import Held
from .network import SpikingNetwork
from .neurons import Neuron
from .reference import Membrane, fire, rest
from .settling import settling
from .trace import require_steps

Memory = dict[str, Held]  # by node: what it carries from step to step


class Moment(NamedTuple):
    """What one step did.

    `spikes` and `membranes` are (sample, *shape) int64 by neuron layer: the signed spikes that it sent,
    and its potential after them, in units of 1 / scale of its line. `logits` is (sample, *output shape)
    float64: what the outputs say after this step.
    """

    spikes: Mapping[str, Tensor]
    membranes: Mapping[str, Tensor]
    logits: Tensor

    def __repr__(self) -> str:
        sent = {name: int(spikes.count_nonzero()) for name, spikes in self.spikes.items()}
        return f"Moment: neurons that fired: {brief(sent)}, logits {brief(self.logits)}"


class Passing(nn.Module):
    """A node that is no neuron: it passes on by how much what it computes has changed.

    Its tensors are buffers. Numbers are whole, in float64, which holds them all: sums stay below 2**53.
    """

    def __init__(self, node: Node, *, repeats: bool) -> None:
        super().__init__()
        self.node, self.op = node, node.op
        self._repeats = repeats and node.op.adds  # its constant, at every step
        for name, tensor in _named_tensors(node.op):
            self.register_buffer(name, tensor)

    def forward(self, *increments: Tensor, memory: Memory, done: int) -> Tensor:
        """(sample, *shape) what changes in the step after `done`, from what changes at its inputs."""
        held: tuple[Any, ...] = memory[self.node.name] if done else (0,) * (len(increments) + 1)
        *received, before = held
        sums = [old + new for old, new in zip(received, increments, strict=True)]
        value = on_integers[type(self.op)](self.op, *sums)
        change: Tensor = value - before
        if self._repeats and done:
            change = change + on_integers[type(self.op)](self.op, *map(torch.zeros_like, sums))
        memory[self.node.name] = (*sums, value)
        return change

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Passing":
        """After a move, the op computes with the tensors that were moved."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch's is
        self.op = _with_tensors(self.op, iter(self._buffers.values()))
        return self

    def extra_repr(self) -> str:
        return repr(self.op)


class Neurons(Passing):
    """A layer of neurons: what it gives is the spikes it sends this step."""

    def __init__(self, node: Node, neuron: Neuron, gate: int) -> None:
        super().__init__(node, repeats=False)
        self.neuron, self.gate = neuron, gate

    def forward(self, *increments: Tensor, memory: Memory, done: int) -> Tensor:
        """(sample, *shape) float64 signed spikes, from the current of the step after `done`."""
        (current,) = increments
        name, op = self.node.name, self.op
        assert isinstance(op, Ladder)
        whole = current.to(torch.int64)
        membrane = Membrane(*memory[name]) if done else _at_rest(op, whole)
        since = done + 1 - self.gate
        membrane, spikes = fire(op, self.neuron, membrane, whole, since if since >= 0 else None)
        memory[name] = membrane
        return spikes.to(current)


class SpikingLayers(nn.Module):
    """A spiking network in torch, step by step: `state, step = net.step(net.start(), x)`.

    Children have the names of the graph's nodes; `get_submodule(name)` finds one. A forward hook on a
    neuron layer sees its spikes at every step, on any other node what changed there. Nothing is kept
    in the module between calls: `forward` starts anew, `step` takes the state and returns the next.

    Parameters
    ----------
    network : SpikingNetwork
        What is run, by its definition.
    steps : int
        How many steps `forward` takes.

    Raises
    ------
    GraphError
        If a node's sums may pass 53 bits, which these numbers hold.
    """

    def __init__(self, network: SpikingNetwork, steps: int) -> None:
        super().__init__()
        require_steps(steps)
        self.network, self.steps = network, steps
        for name, bound in ranges(network, steps).items():
            float_carrier(bound.increments.load, name)
        known = settling(network)
        children: list[Passing] = []
        for node in network.graph.nodes:
            if isinstance(node.op, Ladder):
                children.append(Neurons(node, network.neuron[node.name], known[node.name].gate))
            elif not isinstance(node.op, Input):
                children.append(Passing(node, repeats=network.rate_coded))
        self._layers = {child.node.name: child for child in children}
        for name in self._parents_first():
            self._place(self._layers[name])
        self.register_buffer("_here", torch.zeros(()), persistent=False)

    def _parents_first(self) -> list[str]:
        """Nodes in running order, but for those that the names of earlier ones lead through."""
        ways = (accumulate(name.split("."), "{}.{}".format) for name in self._layers)
        return [n for n in dict.fromkeys(chain.from_iterable(ways)) if n in self._layers]

    def _place(self, child: Passing) -> None:
        """Put a child where its dotted name says; a part that means something else gets a ``_``."""
        *above, last = child.node.name.split(".")
        place: nn.Module = self
        for part in above:
            if part not in place._modules:
                part = _free(place, part)
                place.add_module(part, nn.Module())
            place = place.get_submodule(part)
        place.add_module(_free(place, last), child)

    def start(self) -> State:
        """The state before the first step: nothing was received, nothing sent."""
        return State()

    def step(self, state: State, x: Tensor) -> tuple[State, Moment]:
        """One step; the state given stays as it was.

        Parameters
        ----------
        state : State
            What `start` or the step before gave.
        x : Tensor
            (sample, *shape) real inputs, of which the network's coding takes what is due.

        Raises
        ------
        InputError
            If inputs lie on another device than the module, or outside the network's range.
        """
        now, memory, network = state.done + 1, dict(state.held), self.network
        if x.device != self._here.device:
            raise InputError(
                f"inputs are on {x.device}, the module on {self._here.device}; move one to the other",
                where=Setting("x"),
            )
        injected = network.coding.at(network.grid.to_integers(x), now, network.grid)

        def compute(node: Node, *changes: Tensor) -> Tensor:
            if isinstance(node.op, Input):
                return injected.to(torch.float64)
            found: Tensor = self._layers[node.name](*changes, memory=memory, done=state.done)
            return found

        spikes = {n.name: out.to(torch.int64) for n, out in flow(network.graph, compute)
                  if isinstance(n.op, Ladder)}  # fmt: skip
        membranes = {name: Membrane(*memory[name]).potential for name in spikes}
        total = memory[network.graph.outputs[0]][-1] / (now if network.rate_coded else 1)
        return State(now, memory), Moment(spikes, membranes, network.readout.real(total))

    def forward(self, x: Tensor, steps: int | None = None) -> Tensor:
        """(sample, *output shape) float64 logits after so many steps, from rest."""
        wanted = self.steps if steps is None else steps
        require_steps(wanted)
        state = self.start()
        for _ in range(wanted):
            state, step = self.step(state, x)
        return step.logits

    def extra_repr(self) -> str:
        return repr(self.network)


def _at_rest(op: Ladder, like: Tensor) -> Membrane:
    return Membrane(*(own.to(like.device) for own in rest(op, like.shape)))


def _free(place: nn.Module, name: str) -> str:
    """A name like this one that a new child can have."""
    while not name or hasattr(place, name):
        name += "_"
    return name


def _named_tensors(value: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """The tensors of an op by the names of their fields, in the order of `_with_tensors`."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from _named_tensors(item, f"{name}_{index}")
    elif isinstance(value, Record):
        for own in fields(value):
            yield from _named_tensors(getattr(value, own.name), own.name)


def _with_tensors(value: Any, tensors: Iterator[Any]) -> Any:
    """The value with other tensors in place of its own."""
    if isinstance(value, Tensor):
        return next(tensors)
    if isinstance(value, tuple):
        return tuple(_with_tensors(item, tensors) for item in value)
    if isinstance(value, Record):
        own = {f.name: _with_tensors(getattr(value, f.name), tensors) for f in fields(value)}
        return replace(value, **own)
    return value
