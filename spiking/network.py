"""A spiking network: an integer graph, a neuron for every ladder, an input coding, a schedule."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from itertools import accumulate
from math import prod
from pathlib import Path
from typing import Any

from torch import Tensor

from spikemorph.graph import Graph, GraphError, Input, InputError, Node
from spikemorph.graph.fields import filled, fitted
from spikemorph.graph.grid import Grid
from spikemorph.graph.nested import nested_nodes, recurs
from spikemorph.graph.plain import Plain
from spikemorph.graph.records import decode, encode
from spikemorph.graph.saving import (
    TensorStore,
    graph_from_plain,
    graph_to_plain,
    read_file,
    write_file,
)
from spikemorph.graph.stages import INTEGER, require
from spikemorph.layers.ladder import Ladder
from spikemorph.layers.readout import Readout

from .coding import AnalogFirstStep, Coding, Constant
from .neurons import Neuron


class Schedule(IntEnum):
    """When neurons may fire."""

    FREE = 0  # at every step
    WAIT = 1  # each only once its input is complete, by the proven bound (theorem 4)


class Carry(IntEnum):
    """What is kept from one element of a sequence to the next, inside recurrent layers."""

    RESET = 0  # the states alone: every element is computed from rest
    DELTA = 1  # all sums and tracers: only changes are sent


@dataclass(frozen=True)
class SpikingNetwork:
    """What runs in time.

    Parameters
    ----------
    graph : Graph
        An integer graph: one input with a grid, one `Readout` last.
    neurons : tuple of (str, Neuron)
        One for every ladder, by node name; inside recurrent layers by qualified name.
    coding : Coding
        How inputs enter.
    schedule : Schedule
        When neurons may fire.
    carry : Carry
        What recurrent layers keep between the elements of a sequence.

    Raises
    ------
    GraphError
        If a ladder has no neuron, a neuron no ladder, the graph is not an integer graph
        (`graph.stages`), or inputs of sequences are not to come all at once.
    """

    graph: Graph
    neurons: tuple[tuple[str, Neuron], ...]
    coding: Coding = AnalogFirstStep()
    schedule: Schedule = Schedule.FREE
    carry: Carry = Carry.RESET

    def __post_init__(self) -> None:
        object.__setattr__(self, "schedule", Schedule(self.schedule))
        object.__setattr__(self, "carry", Carry(self.carry))
        ladders = {node.name for node in self.ladders()}
        if ladders != set(self.neuron):
            odd = sorted(ladders ^ set(self.neuron))
            raise GraphError(f"nodes {odd}: every ladder needs exactly one neuron")
        require(self.graph, INTEGER)
        if self.recurrent and not isinstance(self.coding, AnalogFirstStep):
            raise GraphError(
                f"{self.coding!r}: elements of sequences enter all at once (AnalogFirstStep)"
            )

    def __repr__(self) -> str:
        kinds = ", ".join(dict.fromkeys(neuron.name for _, neuron in self.neurons)) or "none"
        count = len(self.neurons)
        layers = f"{count} neuron layer{'' if count == 1 else 's'} ({kinds})"
        carried = f", carry {self.carry.name.lower()}" if self.recurrent else ""
        entries = ", ".join(f"{op.shape} in {op.interval}" for op in self._entries.values())
        return (
            f"SpikingNetwork of {layers}, inputs {entries}, {self.coding!r}, schedule "
            f"{self.schedule.name.lower()}{carried}"
        )

    @cached_property
    def neuron(self) -> Mapping[str, Neuron]:
        """The neuron of every ladder, by node name."""
        return dict(self.neurons)

    @property
    def entry(self) -> Input:
        """The input op."""
        return self.graph.entry

    @property
    def grid(self) -> Grid:
        """The integers that inputs lie on."""
        assert self.entry.grid is not None
        return self.entry.grid

    @cached_property
    def _entries(self) -> Mapping[str, Input]:
        found = {name: self.graph[name].op for name in self.graph.inputs}
        return {name: op for name, op in found.items() if isinstance(op, Input)}

    @cached_property
    def _places(self) -> Mapping[str, slice]:
        """Where the points of each input lie, side by side."""
        sizes = [prod(op.shape) for op in self._entries.values()]
        ends = accumulate(sizes)
        pairs = zip(self._entries, sizes, ends, strict=True)
        return {name: slice(end - size, end) for name, size, end in pairs}

    @property
    def lasts(self) -> int | None:
        """The last step at which something is injected; None if it never stops."""
        found = [self.coding.lasts(op.grid) for op in self._entries.values() if op.grid is not None]
        return None if None in found else max(last for last in found if last is not None)

    def part(self, name: str, points: Tensor) -> Tensor:
        """The points of one input, (sample, *shape).

        `points` is that for a network with one input; the points of several lie in it side by side,
        (sample, number), in the order of the inputs.
        """
        if len(self._entries) == 1:
            return points
        return points[:, self._places[name]].reshape(-1, *self._entries[name].shape)

    def injected(self, name: str, points: Tensor, step: int) -> Tensor:
        """What is injected at one of the inputs at `step` (from 1 on), int64 (sample, *shape)."""
        grid = self._entries[name].grid
        assert grid is not None
        return self.coding.at(self.part(name, points), step, grid)

    @property
    def recurrent(self) -> bool:
        """Whether something of it runs along the elements of a sequence."""
        return recurs(self.graph)

    @property
    def readout(self) -> Readout:
        """The last node's op."""
        op = self.graph[self.graph.outputs[0]].op
        assert isinstance(op, Readout)
        return op

    @property
    def rate_coded(self) -> bool:
        """Whether inputs never stop, so that outputs are read per step."""
        return isinstance(self.coding, Constant)

    def ladders(self) -> list[Node]:
        """The nodes that spike, in running order; those of bodies under their qualified names."""
        found = []
        for name, node in nested_nodes(self.graph):
            if isinstance(node.op, Ladder):
                inside = name.removesuffix(node.name)
                reads = tuple(f"{inside}{source}" for source in node.inputs)
                found.append(Node(name, node.op, reads))
        return found


@dataclass(frozen=True)
class _Stored:
    """What the JSON of a network holds."""

    graph: Any
    neurons: tuple[tuple[str, Any], ...]
    coding: Any
    schedule: Schedule
    carry: Carry = Carry.RESET


@dataclass(frozen=True)
class _File:
    """What a file of a network holds."""

    network: Any
    notes: dict[str, Any]


def network_to_plain(network: SpikingNetwork, store: TensorStore) -> Plain:
    """A network as JSON; its tensors go to `store`."""
    carried: dict[str, Plain] = {"carry": int(network.carry)} if network.recurrent else {}
    return {
        "graph": graph_to_plain(network.graph, store),
        "neurons": [[name, encode(neuron, store)] for name, neuron in network.neurons],
        "coding": encode(network.coding, store),
        "schedule": int(network.schedule),
        **carried,
    }


def network_from_plain(plain: Plain, tensors: Mapping[str, Tensor], where: str) -> SpikingNetwork:
    """Read what `network_to_plain` wrote.

    Raises
    ------
    InputError
        If it is not a valid network; `where` names the file.
    """
    stored = filled(_Stored, plain, where)
    graph = graph_from_plain(stored.graph, tensors, where)
    neurons = []
    for name, item in stored.neurons:
        place = f"{where}, neuron {name!r}"
        neurons.append((name, fitted(decode(item, tensors, place), Neuron, place)))
    place = f"{where}, coding"
    coding = fitted(decode(stored.coding, tensors, place), Coding, place)
    try:
        return SpikingNetwork(graph, tuple(neurons), coding, stored.schedule, stored.carry)
    except GraphError as error:
        raise InputError(f"{where}: not a stored network ({error}); convert again") from error


def save_network(path: Path, network: SpikingNetwork, notes: Mapping[str, Any]) -> None:
    """Save a network as one safetensors file, with JSON `notes` (its certificate, its history)."""
    store = TensorStore()
    plain = {"network": network_to_plain(network, store), "notes": dict(notes)}
    write_file(path, "network", plain, store.tensors)


def load_network(path: Path) -> tuple[SpikingNetwork, dict[str, Any]]:
    """Load a network and its notes; see `save_network`.

    Raises
    ------
    InputError
        If the file is missing, damaged, changed, or holds something else.
    """
    plain, tensors = read_file(path, "network")
    held = filled(_File, plain, str(path))
    return network_from_plain(held.network, tensors, str(path)), held.notes
