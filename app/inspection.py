"""Say of every node of a model what becomes of it."""

from collections.abc import Sequence
from dataclasses import fields

from torch import Tensor

from spikemorph.convert import canonical
from spikemorph.graph import Graph, Input, Node, Problem, UnsupportedError
from spikemorph.graph.interpret import shapes
from spikemorph.layers.activation import Activation
from spikemorph.layers.convolution import Convolution
from spikemorph.layers.linear import Linear
from spikemorph.quant.prepare import relay_sums, split_analog

from .results import Inspection, NodeFate


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
    return Inspection(name, (*taken, *refused), False, 0)


def count_parameters(graph: Graph) -> int:
    """How many numbers the graph's ops hold; shared tensors count once."""
    tensors = {
        id(value): value
        for node in graph.nodes
        for value in (getattr(node.op, field.name) for field in fields(node.op))
        if isinstance(value, Tensor)
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
    if isinstance(node.op, Input):
        return "integers on the input grid"
    if node.name in body:
        if isinstance(body[node.name].op, Activation) or isinstance(node.op, Activation):
            return "a neuron layer"
        if isinstance(node.op, Convolution | Linear):
            return "integer weights"
        return "kept: moves, joins or pools integers"
    if node.name in folded:
        return "kept in the analog read-out"
    return "folded into its neighbours, exactly"
