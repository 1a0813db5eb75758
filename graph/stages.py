"""What a legal graph is at each stage of a conversion: which ops it may hold, and where they may stand.

FLOAT is what readers give and training changes; CANONICAL has nothing left that opens into other ops;
PREPARED is ready to be rounded: spikes before every weighted layer, analog ops taken off its end; INTEGER
is what engines run. Layers say in their rows what one stage asks of their ops.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from .calls import Refusal
from .errors import GraphError, Problem
from .graph import Graph, Input, Op
from .interpret import shapes
from .tables import Table, on_increments, on_integers, on_ranges, on_scales, opens
from .traits import Ends, Shape, carries_spikes

Check = Callable[..., None]
_ROW = "replace the layer, or enter the row in the file of the op"


@dataclass(frozen=True)
class Seat:
    """Where an op stands.

    Parameters
    ----------
    shapes : tuple of tuple of int
        One sample's, of every input.
    spikes : tuple of bool
        Whether every input is made of spikes.
    output : tuple of int or None
        One sample's shape behind the op, where the graph's output is read there.
    """

    shapes: tuple[Shape, ...]
    spikes: tuple[bool, ...]
    output: Shape | None


class Stage(Table[Check]):
    """A kind of graph. A row, (op, `Seat`) -> None, raises `Refusal` where its op may not stand so.

    Parameters
    ----------
    name : str
        As messages say it.
    integer : bool
        Whether its graphs compute on integers.
    needs : tuple of Table
        Where every op must have a row, unless it has one in the stage itself.
    """

    def __init__(self, name: str, *, integer: bool = False, needs: tuple[Table[Any], ...]) -> None:
        super().__init__(name)
        self.integer, self.needs = integer, needs


RUNS = (on_integers, on_increments, on_ranges)
FLOAT = Stage("float", needs=())
CANONICAL = Stage("canonical", needs=())
PREPARED = Stage("prepared", needs=(*RUNS, on_scales))
INTEGER = Stage("integer", integer=True, needs=RUNS)


def require(graph: Graph, stage: Stage) -> Graph:
    """The graph itself, if it is legal at a stage.

    Raises
    ------
    GraphError
        If it is not; names every node and what is wrong with it.
    """
    if found := problems(graph, stage):
        raise GraphError(f"no {stage.name} graph: {'; '.join(map(str, found))}")
    return graph


def problems(graph: Graph, stage: Stage, *, inside: bool = False) -> list[Problem]:
    """What keeps a graph from being one of a stage, in running order; nothing where it is one.

    One that stands `inside` an op may have many inputs and outputs, and ends where it likes.
    """
    found = {problem.node: problem for problem in _ends(graph, stage, inside)}
    for node in graph.nodes:
        if (why := _stranger(node.op, stage)) is not None:
            found.setdefault(node.name, Problem(node.name, type(node.op).__name__, *why))
    if not (found and stage.integer):  # else some shapes cannot be told
        found = {p.node: p for p in _misplaced(graph, stage)} | found
    return [found[node.name] for node in graph.nodes if node.name in found]


def _ends(graph: Graph, stage: Stage, inside: bool) -> Iterator[Problem]:
    """What is wrong with where samples enter, and where results leave."""
    for name in (*graph.inputs, *(register.name for register in graph.registers)):
        op = graph[name].op
        assert isinstance(op, Input)
        if stage.integer and op.grid is None:
            repair = "quantise the graph first (spikemorph.quant)"
            yield Problem(name, "Input", "the input has no integer grid", repair)
        elif not stage.integer and op.grid is not None:
            repair = "give the float graph that it was made of"
            yield Problem(name, "Input", "it is an integer graph's", repair)
    if inside:
        return
    last, kind = graph.outputs[0], type(graph[graph.outputs[0]].op).__name__
    if stage.needs and len(graph.outputs) != 1:
        reason = f"the network has outputs {graph.outputs}"
        yield Problem(last, "output", reason, "export the model with one output, the logits")
    elif stage.integer and not isinstance(graph[last].op, Ends):
        repair = "quantise the graph first (spikemorph.quant)"
        yield Problem(last, kind, "a spiking network ends in a read-out", repair)


def _stranger(op: Op, stage: Stage) -> tuple[str, str] | None:
    """Why an op has no place in any graph of a stage, and what to do."""
    if isinstance(op, Input) or type(op) in stage:
        return None
    if not stage.integer and type(op).__call__ is Op.__call__:
        return "it has no meaning on real values", "give the float graph"
    if stage is not FLOAT and type(op) in opens:
        return "it is not in canonical form", "bring the graph to it (spikemorph.convert.canonical)"
    missing = [table.name for table in stage.needs if type(op) not in table]
    return (f"it has no row in {' and '.join(missing)}", _ROW) if missing else None


def _misplaced(graph: Graph, stage: Stage) -> Iterator[Problem]:
    """Ops that their rows in the stage refuse where they stand."""
    asked = [node for node in graph.nodes if type(node.op) in stage]
    sizes, spikes = (shapes(graph), carries_spikes(graph)) if asked else ({}, {})
    for node in asked:
        seat = Seat(
            tuple(sizes[name] for name in node.inputs),
            tuple(spikes[name] for name in node.inputs),
            sizes[node.name] if node.name in graph.outputs else None,
        )
        try:
            stage[type(node.op)](node.op, seat)
        except Refusal as error:
            yield Problem(node.name, type(node.op).__name__, error.reason, error.repair)
