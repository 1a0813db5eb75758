"""Recurrent layers: a graph with registers, run along an axis of a larger one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from spikemorph.graph import Graph, Input, Node, Op
from spikemorph.graph.calls import Refusal
from spikemorph.graph.fields import Between
from spikemorph.graph.interpret import Compute, by_name, flow, integer_compute, on_reals, shapes
from spikemorph.graph.sequences import along, at_start
from spikemorph.graph.stages import INTEGER, PREPARED, Seat, Stage, problems
from spikemorph.graph.tables import on_boxes, on_integers, on_ranges
from spikemorph.graph.traits import Fires, Recurs

from .boxes import Box, of_node, rising
from .ladder import Ladder
from .ranges import Range, by_row, edge_ranges


@dataclass(frozen=True, eq=False)
class Scan(Recurs):
    """`body` at every element along an axis (that counts the batch); its outputs lie on that axis.

    The body has as many inputs as the node, which it reads element by element, and one output. Its
    registers start anew with every sample. `reverse` begins at the last element.
    """

    body: Graph
    axis: Annotated[int, Between(1)]
    reverse: bool

    def __post_init__(self) -> None:
        if len(self.body.outputs) != 1 or not self.body.inputs:
            raise ValueError("a body has one output, and an input or more")
        shapes(self.body)

    def __call__(self, *inputs: Tensor) -> Tensor:
        return self.computed(on_reals, *inputs)

    def computed(self, compute: Compute, *inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """As when called, with another meaning of the body's nodes, and samples of these lengths."""
        pairs = zip(self.body.inputs, inputs, strict=True)
        xs = {name: x.movedim(self.axis, 1) for name, x in pairs}
        if len({x.shape[1] for x in xs.values()}) > 1:
            raise ValueError("its inputs have different numbers of elements")
        made = along(self.body, by_name(self.body, xs), compute, lengths, reverse=self.reverse)
        return made.movedim(1, self.axis)


@on_integers(Scan)
def _on_integers(op: Scan, *inputs: Tensor) -> Tensor:
    return op.computed(integer_compute(op.body), *inputs)


@on_boxes(Scan)
def _on_boxes(op: Scan, *boxes: Box) -> Box:
    """Element by element, each with the boxes of its registers after the one before."""
    xs = [rising(lambda x: x.movedim(op.axis, 1), box) for box in boxes]
    first, made = xs[0].lower, list[Box]()
    held = {name: Box(start, start) for name, start in at_start(op.body, first).items()}
    for index in range(first.shape[1])[:: -1 if op.reverse else 1]:
        element = [Box(box.lower.select(1, index), box.upper.select(1, index)) for box in xs]
        found = _at_element(op.body, {**dict(zip(op.body.inputs, element, strict=True)), **held})
        held = {register.name: found[register.after] for register in op.body.registers}
        made.append(found[op.body.outputs[0]])
    made = made[::-1] if op.reverse else made
    lower, upper = torch.stack([b.lower for b in made], 1), torch.stack([b.upper for b in made], 1)
    return rising(lambda x: x.movedim(1, op.axis), Box(lower, upper))


def _at_element(body: Graph, known: Mapping[str, Box]) -> dict[str, Box]:
    """The boxes of all nodes, where those of inputs and registers are known."""

    def enter(node: Node, *boxes: Box) -> Box:
        return known[node.name] if node.name in known else of_node(node, *boxes)

    return {node.name: box for node, box in flow(body, enter)}


@on_ranges(Scan)
def _on_ranges(op: Scan, *sources: Range) -> Range:
    return inner_ranges(op, sources)[op.body.outputs[0]]


def inner_ranges(
    op: Recurs, sources: Sequence[Range], of_node: Callable[..., Range] = by_row
) -> dict[str, Range]:
    """The bounds of every value in a body, by name, from those of what its node reads.

    A register has those of its grid, which what it takes never leaves (it is checked): so they hold at
    every element of sequences of any length. ``of_node(node, *sources)`` gives one node's.
    """
    return edge_ranges(op.body, entering(op, sources, of_node))


def entering(
    op: Recurs, sources: Sequence[Range], of_node: Callable[..., Range]
) -> Callable[..., Range]:
    """As `of_node`, for the nodes of a body whose inputs have the bounds of what its node reads."""
    known = dict(zip(op.body.inputs, (source.whole() for source in sources), strict=True))

    def bound(node: Node, *reads: Range) -> Range:
        return known[node.name] if node.name in known else of_node(node, *reads)

    return bound


def nested_ranges(graph: Graph, of_node: Callable[..., Range] = by_row) -> dict[str, Range]:
    """As `edge_ranges`, with the values inside recurrent layers by qualified name."""
    found: dict[str, Range] = {}

    def gather(path: str, graph: Graph, of_input: Callable[..., Range]) -> None:
        own = edge_ranges(graph, of_input)
        for node in graph.nodes:
            found[f"{path}{node.name}"] = own[node.name]
            if isinstance(node.op, Recurs):
                reads = [own[name] for name in node.inputs]
                gather(f"{path}{node.name}/", node.op.body, entering(node.op, reads, of_node))

    gather("", graph, of_node)
    return found


@PREPARED(Scan)
def _prepared(op: Scan, seat: Seat) -> None:
    """What leaves it, and what lasts, are spikes, or what was read."""
    _legal(op, PREPARED)
    body = op.body
    for name in (*body.outputs, *(register.after for register in body.registers)):
        if not isinstance(body[name].op, Fires | Input):
            reason = f"its node {name!r} is to last or to leave, and is no activation"
            raise Refusal(reason, "put a relay behind it (spikemorph.quant)")


@INTEGER(Scan)
def _integer(op: Scan, seat: Seat) -> None:
    """Registers start, and stay, on their grids."""
    _legal(op, INTEGER)
    for register in op.body.registers:
        low, high = _grid_ends(op.body[register.name].op)
        least, most = _ends(op.body[register.after].op)
        start = register.start.double()
        held = register.start.is_floating_point() or bool(((start < low) | (start > high)).any())
        if held or not low <= least <= most <= high:
            reason = f"its register {register.name!r} leaves its grid of {low}..{high}"
            raise Refusal(reason, "convert the model again")


def _grid_ends(op: Op) -> tuple[int, int]:
    assert isinstance(op, Input) and op.grid is not None
    return op.grid.low, op.grid.high


def _ends(op: Op) -> tuple[int, int]:
    """The least and the greatest value of what a register takes."""
    if isinstance(op, Input):
        return _grid_ends(op)
    if not isinstance(op, Ladder) or op.smax is None:
        raise Refusal("a register takes what is no ladder with a top", "convert the model again")
    return op.smin, op.smax


def _legal(op: Scan, stage: Stage) -> None:
    """Refuse a body that is not legal at a stage; says which of its nodes, and why."""
    if found := problems(op.body, stage, inside=True):
        first = found[0]
        raise Refusal(f"its node {first.node!r} ({first.op}): {first.reason}", first.repair)
