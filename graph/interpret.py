"""Run a graph: once over real values, differentiably, or once over integers."""

from collections.abc import Callable, Iterator
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from .errors import GraphError, Problem, UnsupportedError
from .graph import Graph, Input, Node, Op
from .once import once
from .tables import Table, on_integers

LARGEST_VALUE = 2**26  # numbers of one sample at one place of a network, padding included
Compute = Callable[..., Tensor]


def flow(graph: Graph, compute: Compute) -> Iterator[tuple[Node, Tensor]]:
    """Yield every node with its output, freeing outputs that no later node reads.

    ``compute(node, *inputs)`` gives the output of every node, the inputs of the graph too.
    """
    waiting = {node.name: len(graph.users(node.name)) for node in graph.nodes}
    known: dict[str, Tensor] = {}
    for node in graph.nodes:
        output = compute(node, *(known[name] for name in node.inputs))
        yield node, output
        known[node.name] = output
        for name in dict.fromkeys(node.inputs):
            waiting[name] -= 1
            if waiting[name] == 0:
                del known[name]


def walk(graph: Graph, x: Tensor, compute: Compute) -> Iterator[tuple[Node, Tensor]]:
    """As `flow`, for samples that enter a graph of one input.

    Parameters
    ----------
    graph : Graph
        With one input.
    x : Tensor
        (sample, *input shape).
    compute : callable
        ``compute(node, *inputs)`` gives the output of a node that is not the input.
    """
    if len(graph.inputs) != 1:
        raise GraphError(f"the graph has inputs {list(graph.inputs)}: one is expected")
    (entry,) = graph.inputs

    def enter(node: Node, *inputs: Tensor) -> Tensor:
        is_entry = isinstance(node.op, Input)
        return _checked(graph, entry, x) if is_entry else compute(node, *inputs)

    yield from flow(graph, enter)


def run(graph: Graph, x: Tensor) -> Tensor:
    """The graph's output on real values, differentiable in `x` and in the graph's tensors.

    Parameters
    ----------
    graph : Graph
        A float graph with one input and one output.
    x : Tensor
        (sample, *input shape), floating point.

    Raises
    ------
    GraphError
        If `x` has another shape than the graph's input, or an op's shapes do not fit.
    """
    return _last(graph, x, _naming_the_node(on_reals))


def run_integers(graph: Graph, x: Tensor) -> Tensor:
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

    Raises
    ------
    GraphError
        Naming the node whose shapes do not fit, or that would compute more than `LARGEST_VALUE`.
    UnsupportedError
        Naming every node of an integer graph whose op has no meaning on integers.
    """
    return dict(_shapes(graph))


@once
def _shapes(graph: Graph) -> dict[str, tuple[int, ...]]:
    entry = graph.entry
    if prod(entry.shape) > LARGEST_VALUE:
        raise GraphError(
            f"input {graph.inputs[0]!r}: a sample of shape {entry.shape} has more than "
            f"{LARGEST_VALUE} numbers; check the model's input shape"
        )
    integer = entry.grid is not None
    x = torch.empty((2, *entry.shape), device="meta", dtype=torch.int64 if integer else None)
    compute = integer_compute(graph) if integer else on_reals
    found = {}
    with _Budget():  # type: ignore[no-untyped-call]  # torch's is
        for node, output in walk(graph, x, _naming_the_node(compute)):
            found[node.name] = tuple(output.shape[1:])
    return found


class _Budget(TorchDispatchMode):
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


def _last(graph: Graph, x: Tensor, compute: Compute) -> Tensor:
    if len(graph.outputs) != 1:
        raise GraphError(f"the graph has outputs {list(graph.outputs)}: one is expected")
    (wanted,) = graph.outputs
    result = x
    for node, output in walk(graph, x, compute):
        if node.name == wanted:
            result = output
    return result


def on_reals(node: Node, *inputs: Tensor) -> Tensor:
    """How the nodes of a float graph compute, for `walk`."""
    return node.op(*inputs)


def _naming_the_node(compute: Compute) -> Compute:
    def named(node: Node, *inputs: Tensor) -> Tensor:
        try:
            return compute(node, *inputs)
        except (RuntimeError, ValueError, IndexError, TypeError, OverflowError) as error:
            reason = str(error).splitlines()[0]
            raise GraphError(
                f"node {node.name!r} ({type(node.op).__name__}): {reason}; its inputs have shapes "
                f"{[tuple(i.shape[1:]) for i in inputs]}: check the model's input shape"
            ) from error

    return named


def _checked(graph: Graph, entry: str, x: Tensor) -> Tensor:
    op = graph[entry].op
    assert isinstance(op, Input)
    if tuple(x.shape[1:]) != op.shape:
        raise GraphError(
            f"input {entry!r} takes samples of shape {op.shape}, got {tuple(x.shape[1:])}; "
            "reshape the data, or read the model for samples of that shape"
        )
    return x
