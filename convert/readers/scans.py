"""What a source's scan is in a graph: its body with registers, along the axis of elements."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from torch import Tensor

from spikemorph.graph import Graph, Input, Node
from spikemorph.graph.calls import Call, Edge, Part, Refusal, Wiring, samples_anywhere
from spikemorph.graph.graph import Register
from spikemorph.graph.nested import nested_nodes
from spikemorph.layers.scan import Scan
from spikemorph.layers.shape import Reshape
from spikemorph.layers.slicing import Narrow

from .assembly import Assembly
from .budget import Budget

_NODE = 2**14  # elements that a node of a further copy of a body costs as much as: 4,096 are free


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
    axis = _within(axis, edge.rank)
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


@dataclass(frozen=True, eq=False)
class Plan:
    """What a scan says around its body: where states start, one element of everything that it scans,
    its direction, and where elements lie in what it gives out."""

    starts: tuple[Tensor, ...]
    elements: tuple[Edge, ...]
    reverse: bool = False
    axes: tuple[int, ...] = ()


def read_body(
    name: str,
    outer: Assembly,
    inner: Assembly,
    plan: Plan,
    walk: Callable[[Sequence[Edge]], Sequence[Any]],
) -> Body | None:
    """The body of the scan `name`, gathered in `inner`; None if it has nodes that cannot be taken, which
    `outer` is told. ``walk((*states, *elements))`` takes its nodes; what it gives out, states first.

    Raises
    ------
    Refusal
        If it gives out what is not computed, or a state in another order than it takes it.
    """
    states = [inner.enter("state", Input(tuple(start.shape))) for start in plan.starts]
    elements = [replace(inner.enter(x.name, Input(x.shape)), batch=x.batch) for x in plan.elements]
    made = walk((*states, *elements))
    outer.problems += [replace(p, node=f"{name}/{p.node}") for p in inner.problems]
    if inner.problems:
        return None
    if not all(isinstance(item, Edge) for item in made):
        raise Refusal("it gives out what is not computed from its elements", "leave it out")
    if any(edge.batch for edge in made[: len(states)]):
        raise Refusal("it moves samples within a state", "keep samples on the first axis")
    inputs, lasting = (tuple(edge.name for edge in edges) for edges in (elements, states))
    nodes = tuple(inner.nodes)
    return Body(nodes, inputs, lasting, plan.starts, tuple(made), plan.reverse, plan.axes)


@samples_anywhere
def wired(call: Call) -> Wiring:
    """A `Scan` for every output of a call that knows its body: states after the last element first,
    then what is given out at every element. Copies of the body after the first are paid for."""
    body: Body = call.options["body"]
    budget: Budget = call.options["budget"]
    parts: list[Part] = []
    ends: list[tuple[str, int] | str] = []
    for index, edge in enumerate(body.outputs):
        final = index < len(body.states)
        name = "" if index == len(body.states) else str(index)
        scan = Scan(body.graph(edge), 1, body.reverse)
        if index:
            budget.spend(_weight(scan.body), "another copy of its body, for one more output,")
        parts.append(Part(name, scan, call.edges))
        if final:
            last = Narrow(1, 0 if body.reverse else call.edges[0].shape[0] - 1, 1)
            parts.append(Part(f"{name}.last", last, (name,)))
            parts.append(Part(f"{name}.state", Reshape(edge.shape), (f"{name}.last",)))
        ends.append((f"{name}.state", edge.batch) if final else (name, _place(body, index, edge)))
    return Wiring(tuple(parts), tuple(ends))


def _weight(body: Graph) -> int:
    """What a copy of a body costs, in elements."""
    ops = [node.op for _, node in nested_nodes(body)]
    held = [getattr(op, field.name) for op in ops for field in fields(op)]
    stored = sum(item.numel() for item in held if isinstance(item, Tensor))
    return stored + _NODE * len(ops)


def _within(axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise Refusal(f"its axis {axis} is none of {rank}", "export the model again")
    return axis % rank


def _place(body: Body, index: int, edge: Edge) -> int:
    """The source's axis of samples in what is given out, where elements have one, too."""
    axis = body.axes[index - len(body.states)] if body.axes else 0
    axis = _within(axis, edge.rank + 1)
    if axis > 1 or (axis == 1 and edge.batch != 0):
        raise Refusal(
            f"it gives elements out along axis {axis}", "transpose them behind it instead"
        )
    return edge.batch + (axis <= edge.batch)
