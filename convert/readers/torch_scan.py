"""What a source's scan is in a graph: its body with registers, along the axis of elements."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spikemorph.graph import Graph, Node
from spikemorph.graph.calls import Call, Edge, Part, Refusal, Wiring, samples_anywhere
from spikemorph.graph.graph import Register
from spikemorph.layers.scan import Scan
from spikemorph.layers.shape import Reshape
from spikemorph.layers.slicing import Narrow

SCAN: Any = torch.ops.higher_order.scan


@dataclass(frozen=True, eq=False)
class Body:
    """What a scan does at one element."""

    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    states: tuple[str, ...]
    starts: tuple[Tensor, ...]  # of every state, for one sample
    outputs: tuple[Edge, ...]  # the states after the element, then what is given out at it
    reverse: bool = False
    axes: tuple[int, ...] = ()  # where the source has elements in what is given out; first if empty

    def graph(self, output: Edge) -> Graph:
        """The body with one of its outputs, without what neither it nor a register needs."""
        after = [edge.name for edge in self.outputs[: len(self.states)]]
        alive = {output.name, *after, *self.inputs, *self.states}
        for node in reversed(self.nodes):
            alive |= set(node.inputs) if node.name in alive else set()
        kept = tuple(node for node in self.nodes if node.name in alive)
        registers = tuple(map(Register, self.states, self.starts, after))
        return Graph(kept, self.inputs, (output.name,), registers)


def element_of(edge: Edge, axis: int = 0) -> Edge:
    """One element of what is scanned, which is along one of the source's axes.

    Raises
    ------
    Refusal
        If samples lie there, elements have no other axis, or an axis is before that of elements.
    """
    axis %= edge.rank
    if edge.batch == axis:
        raise Refusal("it scans along the axis of samples", "scan along the axis of elements")
    if len(edge.shape) < 2:
        raise Refusal("its elements are single numbers", "give them an axis of one feature")
    if edge.axis(axis) != 1:
        raise Refusal(f"it scans along axis {axis}", "transpose it before: elements, then features")
    return Edge("x", edge.shape[1:], edge.batch - (axis < edge.batch))


def starts_of(values: Sequence[Any]) -> tuple[Tensor, ...]:
    """The starts of states, of one sample, from arrays that have samples, all alike, first.

    Raises
    ------
    Refusal
        If one is computed, or samples start differently.
    """
    for value in values:
        if not isinstance(value, Tensor):
            raise Refusal("its first state is computed", "store it in the model, one for all")
        if bool((value != value[:1]).any()):
            raise Refusal("its first state differs between samples", "give one for all samples")
    return tuple(value[0].clone() for value in values)


@samples_anywhere
def wired(call: Call) -> Wiring:
    """A `Scan` for every output of a call that knows its body: states after the last element first,
    then what is given out at every element."""
    body: Body = call.options["body"]
    parts: list[Part] = []
    ends: list[tuple[str, int] | str] = []
    for index, edge in enumerate(body.outputs):
        final = index < len(body.states)
        name = "" if index == len(body.states) else str(index)
        parts.append(Part(name, Scan(body.graph(edge), 1, body.reverse), call.edges))
        if final:
            last = Narrow(1, 0 if body.reverse else call.edges[0].shape[0] - 1, 1)
            parts.append(Part(f"{name}.last", last, (name,)))
            parts.append(Part(f"{name}.state", Reshape(edge.shape), (f"{name}.last",)))
        ends.append((f"{name}.state", edge.batch) if final else (name, _place(body, index, edge)))
    return Wiring(tuple(parts), tuple(ends))


def _place(body: Body, index: int, edge: Edge) -> int:
    """The source's axis of samples in what is given out, where elements have one, too."""
    axis = body.axes[index - len(body.states)] if body.axes else 0
    axis %= edge.rank + 1
    if axis > 1 or (axis == 1 and edge.batch != 0):
        raise Refusal(
            f"it gives elements out along axis {axis}", "transpose them behind it instead"
        )
    return edge.batch + (axis <= edge.batch)
