"""Run a graph: once over real values, differentiably, or once over integers."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from math import prod
from typing import Any, TypeVar

import torch
from torch import Tensor

from .errors import GraphError, Problem, UnsupportedError
from .graph import Graph, Input, Node, Op
from .once import once
from .tables import Table, on_integers
from .traits import Recurs
from .watching import Watcher

LARGEST_VALUE = 2**26  # numbers of one sample at one place of a network, padding included
Compute = Callable[..., Tensor]
Value = TypeVar("Value")
Samples = Tensor | Mapping[str, Tensor]  # samples of one input, or by the inputs' names


def flow(graph: Graph, compute: Callable[..., Value]) -> Iterator[tuple[Node, Value]]:
    """Yield every node with its output, freeing outputs that no later node reads.

    ``compute(node, *inputs)`` gives the output of every node, the inputs of the graph too: a tensor, or
    what else is to flow.
    """
    waiting = {node.name: len(graph.users(node.name)) for node in graph.nodes}
    known: dict[str, Value] = {}
    for node in graph.nodes:
        output = compute(node, *(known[name] for name in node.inputs))
        yield node, output
        known[node.name] = output
        for name in dict.fromkeys(node.inputs):
            waiting[name] -= 1
            if waiting[name] == 0:
                del known[name]


def walk(graph: Graph, x: Samples, compute: Compute) -> Iterator[tuple[Node, Tensor]]:
    """As `flow`, for samples that enter a graph without registers.

    Parameters
    ----------
    graph : Graph
        Without registers.
    x : Tensor or mapping
        (sample, *input shape); by the inputs' names where there are several.
    compute : callable
        ``compute(node, *inputs)`` gives the output of a node that is not an input.
    """
    if graph.registers:
        names = [register.name for register in graph.registers]
        raise GraphError(f"the graph has registers {names}: run it over sequences (run_sequence)")
    yield from entered(graph, by_name(graph, x), compute)


def by_name(graph: Graph, x: Samples) -> Mapping[str, Tensor]:
    """Samples by the names of the graph's inputs.

    Raises
    ------
    GraphError
        If these are not the inputs.
    """
    if isinstance(x, Tensor) and len(graph.inputs) != 1:
        raise GraphError(
            f"the graph has inputs {list(graph.inputs)}: one is expected, or each by its name"
        )
    given = {graph.inputs[0]: x} if isinstance(x, Tensor) else x
    if set(given) != set(graph.inputs):
        raise GraphError(f"the graph has inputs {list(graph.inputs)}, given are {list(given)}")
    return given


def entered(
    graph: Graph, given: Mapping[str, Tensor], compute: Compute
) -> Iterator[tuple[Node, Tensor]]:
    """As `walk`; `given` names the values of all Input nodes, those of registers too."""

    def enter(node: Node, *inputs: Tensor) -> Tensor:
        if not isinstance(node.op, Input):
            return compute(node, *inputs)
        return _checked(node.name, node.op, given[node.name])

    yield from flow(graph, enter)


def run(graph: Graph, x: Samples, lengths: Tensor | None = None) -> Tensor:
    """The graph's output on real values, differentiable in `x` and in the graph's tensors.

    Parameters
    ----------
    graph : Graph
        A float graph with one output.
    x : Tensor or mapping
        (sample, *input shape), floating point; by the inputs' names where there are several.
    lengths : Tensor, optional
        (sample,) how many elements recurrent layers see of each sample; all of them if not given.

    Raises
    ------
    GraphError
        If `x` has another shape than the graph's input, or an op's shapes do not fit.
    """
    return _last(graph, x, _naming_the_node(of_lengths(on_reals, lengths)))


def run_integers(graph: Graph, x: Samples) -> Tensor:
    """The graph's output on integers: one pass of the quantised network, int64 in and out."""
    return _last(graph, x, integer_compute(graph))


def integer_compute(graph: Graph) -> Compute:
    """How the nodes of an integer graph compute, for `walk`.

    Raises
    ------
    UnsupportedError
        Naming every node whose op has no meaning on integers.
    """
    require_rows(graph, on_integers, "quantise the graph first (spikemorph.quant)")
    return lambda node, *inputs: on_integers[type(node.op)](node.op, *inputs)


def shapes(graph: Graph) -> dict[str, tuple[int, ...]]:
    """The shape of every node's output for one sample, by running the graph on no data.

    With registers, one element's.

    Raises
    ------
    GraphError
        Naming the node whose shapes do not fit, or that would compute more than `LARGEST_VALUE`, or
        the register that is to take a value of another shape.
    UnsupportedError
        Naming every node of an integer graph whose op has no meaning on integers.
    """
    return dict(_shapes(graph))


@once
def _shapes(graph: Graph) -> dict[str, tuple[int, ...]]:
    entries = {node.name: node.op for node in graph.nodes if isinstance(node.op, Input)}
    for name, entry in entries.items():
        if prod(entry.shape) > LARGEST_VALUE:
            raise GraphError(
                f"input {name!r}: a sample of shape {entry.shape} has more than "
                f"{LARGEST_VALUE} numbers; check the model's input shape"
            )
    integer = any(entry.grid is not None for entry in entries.values())
    kind, compute = (torch.int64, integer_compute(graph)) if integer else (None, on_reals)
    given = {
        name: torch.empty((2, *entry.shape), device="meta", dtype=kind)
        for name, entry in entries.items()
    }
    found = {}
    with _Budget():  # type: ignore[no-untyped-call]  # torch's is
        for node, output in entered(graph, given, _naming_the_node(_remembered(compute, integer))):
            found[node.name] = tuple(output.shape[1:])
    for register in graph.registers:
        if found[register.after] != found[register.name]:
            raise GraphError(
                f"register {register.name!r} of shape {found[register.name]} is to take the node "
                f"{register.after!r}, of shape {found[register.after]}"
            )
    return found


def _remembered(compute: Compute, integer: bool) -> Compute:
    """On no data: what an op makes of its inputs is kept on it, and graphs of a conversion share ops.

    Without data torch takes a millisecond for an operator, most of what converting a small network is.
    """

    def looked_up(node: Node, *inputs: Tensor) -> Tensor:
        held: dict[Any, Tensor] = vars(node.op).setdefault(f"{__name__}.made", {})
        key = (integer, *((tuple(i.shape), i.dtype) for i in inputs))
        if key not in held:
            held[key] = compute(node, *inputs)
        return held[key]

    return looked_up


class _Budget(Watcher):
    """While it is on, a tensor larger than `LARGEST_VALUE` is refused, before any data is there."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.numel() > 2 * LARGEST_VALUE:
            raise ValueError(f"it computes {result.numel() // 2} numbers for one sample")
        return result


def require_rows(
    graph: Graph, table: Table[Callable[..., Tensor]], repair: str, but: tuple[type[Op], ...] = ()
) -> None:
    """Raise `UnsupportedError`, naming every node, unless each op, `but` some, has a row."""
    missing = [
        Problem(node.name, type(node.op).__name__, f"it has no row in {table.name}", repair)
        for node in graph.nodes
        if not isinstance(node.op, (Input, *but)) and type(node.op) not in table
    ]
    if missing:
        raise UnsupportedError(missing)


def _last(graph: Graph, x: Samples, compute: Compute) -> Tensor:
    if len(graph.outputs) != 1:
        raise GraphError(f"the graph has outputs {list(graph.outputs)}: one is expected")
    return outputs_of(graph, walk(graph, x, compute), graph.outputs)[graph.outputs[0]]


def outputs_of(
    graph: Graph, visits: Iterator[tuple[Node, Tensor]], wanted: Iterable[str]
) -> dict[str, Tensor]:
    """What some nodes give, by name, once all have been visited."""
    names = set(wanted)
    return {node.name: output for node, output in visits if node.name in names}


def on_reals(node: Node, *inputs: Tensor) -> Tensor:
    """How the nodes of a float graph compute, for `walk`."""
    return node.op(*inputs)


def _naming_the_node(compute: Compute) -> Compute:
    def named(node: Node, *inputs: Tensor) -> Tensor:
        try:
            return compute(node, *inputs)
        except GraphError as error:  # of a graph inside
            raise GraphError(f"in node {node.name!r}: {error}") from error
        except (RuntimeError, ValueError, IndexError, TypeError, OverflowError) as error:
            reason = str(error).splitlines()[0]
            raise GraphError(
                f"node {node.name!r} ({type(node.op).__name__}): {reason}; its inputs have shapes "
                f"{[tuple(i.shape[1:]) for i in inputs]}: check the model's input shape"
            ) from error

    return named


def _checked(entry: str, op: Input, x: Tensor) -> Tensor:
    if tuple(x.shape[1:]) != op.shape:
        raise GraphError(
            f"input {entry!r} takes samples of shape {op.shape}, got {tuple(x.shape[1:])}; "
            "reshape the data, or read the model for samples of that shape"
        )
    return x


def of_lengths(compute: Compute, lengths: Tensor | None) -> Compute:
    """`compute` with recurrent layers that take every sample to end at its length (sample,)."""
    if lengths is None:
        return compute

    def computed(node: Node, *inputs: Tensor) -> Tensor:
        if not isinstance(node.op, Recurs):
            return compute(node, *inputs)
        return node.op.computed(compute, *inputs, lengths=lengths)

    return computed
