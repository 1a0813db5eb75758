"""Say of every node of a model what becomes of it."""

from collections.abc import Sequence

from torch import Tensor

from spikemorph.convert import canonical
from spikemorph.graph import Graph, Input, Node, Op, Problem, UnsupportedError
from spikemorph.graph.interpret import shapes
from spikemorph.layers.activation import Activation
from spikemorph.layers.affine import ScaleShift
from spikemorph.layers.convolution import Convolution
from spikemorph.layers.joining import Add, Concat
from spikemorph.layers.linear import Linear
from spikemorph.layers.narrowing import Narrow
from spikemorph.layers.pooling import AveragePool, GlobalAverage, GlobalMax, MaxPool, SumPool
from spikemorph.layers.shape import Identity, Pad, Reshape, Transpose
from spikemorph.quant.prepare import relay_sums, split_analog

from .results import Inspection, NodeFate

_TRAINED = {"weight", "bias", "gain", "shift"}
_REASONS: tuple[tuple[tuple[type[Op], ...], str], ...] = (
    ((Input,), "integers on the input grid"),
    ((Convolution, Linear), "integer weights"),
    ((Activation,), "a neuron layer"),
    ((AveragePool, GlobalAverage), "summed; the division moves into what follows"),
    ((Identity,), "dropped: it does nothing"),
    ((Add, Concat), "kept: joins integers"),
    ((MaxPool, GlobalMax, SumPool), "kept: pools integers"),
    ((Reshape, Transpose, Pad, Narrow), "kept: moves integers"),
)


def inspect_graph(name: str, graph: Graph) -> Inspection:
    """What becomes of every node of a float graph that a reader could read whole."""
    folded = canonical(graph)
    problems: Sequence[Problem] = ()
    try:
        body, _ = split_analog(folded)
        body = relay_sums(body)
    except UnsupportedError as error:
        body, problems = folded, error.problems
    sizes = shapes(graph)
    refused = {problem.node: problem for problem in problems}
    nodes = [_fate(node, sizes[node.name], body, folded, refused) for node in graph.nodes]
    known = {node.name for node in graph.nodes}
    nodes.extend(
        NodeFate(
            n.name, type(n.op).__name__, None, True, "added: a neuron that turns sums into spikes"
        )
        for n in body.nodes
        if n.name not in known and isinstance(n.op, Activation)
    )
    return Inspection(name, tuple(nodes), not refused, count_parameters(graph))


def inspect_failure(name: str, error: UnsupportedError) -> Inspection:
    """What is known of a model that could not be read whole: what was, then what cannot be taken."""
    taken = (NodeFate(node, op, None, True, "can be taken") for node, op in error.taken)
    refused = (
        NodeFate(p.node, p.op, None, False, f"{p.reason}; {p.repair}") for p in error.problems
    )
    unseen = (
        NodeFate(node, op, None, False, "not looked at: it is behind one that cannot be taken")
        for node, op in error.unseen
    )
    return Inspection(name, (*taken, *refused, *unseen), False, None, len(error.unseen))


def count_parameters(graph: Graph) -> int:
    """How many trained numbers the graph's ops hold; shared tensors count once."""
    tensors = {
        id(value): value
        for node in graph.nodes
        for name, value in vars(node.op).items()
        if isinstance(value, Tensor) and name in _TRAINED
    }
    return sum(tensor.numel() for tensor in tensors.values())


def _fate(
    node: Node,
    shape: tuple[int, ...],
    body: Graph,
    folded: Graph,
    refused: dict[str, Problem],
) -> NodeFate:
    kind = type(node.op).__name__
    if node.name in refused:
        problem = refused[node.name]
        return NodeFate(node.name, kind, shape, False, f"{problem.reason}; {problem.repair}")
    return NodeFate(node.name, kind, shape, True, _reason(node, body, folded))


def _reason(node: Node, body: Graph, folded: Graph) -> str:
    now = body[node.name].op if node.name in body else None
    if isinstance(now, Activation):
        return "a neuron layer"
    if node.name in folded and now is None:
        return "kept in the analog read-out"
    for kinds, reason in _REASONS:
        if isinstance(node.op, kinds):
            return reason
    kept = isinstance(now, ScaleShift)
    return "taken over by what follows" if kept else "folded into its neighbours, exactly"
