"""Make a canonical graph ready for integers: spikes before every weighted layer, analog ops last."""

from dataclasses import replace

import torch

from spikemorph.graph import Graph, Input, Node, Problem, UnsupportedError
from spikemorph.graph.interpret import shapes
from spikemorph.layers.activation import Activation, Relay
from spikemorph.layers.affine import ScaleShift
from spikemorph.layers.convolution import Convolution
from spikemorph.layers.joining import Add, Concat
from spikemorph.layers.linear import Linear
from spikemorph.layers.pooling import GlobalMax, MaxPool, SumPool
from spikemorph.layers.readout import Analog, Softmax
from spikemorph.layers.shape import Pad, Reshape, Transpose
from spikemorph.layers.slicing import Narrow

WEIGHTED = (Convolution, Linear)
PASSES_SPIKES = (MaxPool, GlobalMax, SumPool, Reshape, Transpose, Narrow, Pad, Concat)
KNOWN = (Input, Activation, ScaleShift, Add, *WEIGHTED, *PASSES_SPIKES)


def split_analog(graph: Graph) -> tuple[Graph, tuple[Analog, ...]]:
    """Take a final softmax, sigmoid or tanh off: it stays in the analog read-out.

    Raises
    ------
    UnsupportedError
        If the graph has not exactly one output, or an op is left that has no integer meaning.
    """
    if len(graph.outputs) != 1:
        reason, repair = (
            f"the network has outputs {graph.outputs}",
            "export the model with one output, the logits",
        )
        raise UnsupportedError([Problem(graph.outputs[0], "output", reason, repair)])
    analog: list[Analog] = []
    last = graph[graph.outputs[0]]
    while isinstance(last.op, Analog) and not graph.users(last.name):
        analog.insert(0, last.op)
        nodes = tuple(node for node in graph.nodes if node.name != last.name)
        graph = Graph(nodes, graph.inputs, last.inputs)
        last = graph[graph.outputs[0]]
    problems = [_problem(node) for node in graph.nodes if not isinstance(node.op, KNOWN)]
    problems.extend(_wide_linears(graph))
    if problems:
        raise UnsupportedError(problems)
    return graph, tuple(analog)


def _wide_linears(graph: Graph) -> list[Problem]:
    """Linear layers that the canonical form could not bring to features on axis 1."""
    sizes = shapes(graph)
    reason = "it is applied at positions along several axes"
    repair = "reshape to at most three axes of positions, and bring the graph to canonical form"
    return [
        Problem(node.name, "Linear", reason, repair)
        for node in graph.nodes
        if isinstance(node.op, Linear) and len(sizes[node.inputs[0]]) != 1
    ]


def _problem(node: Node) -> Problem:
    kind = type(node.op).__name__
    if isinstance(node.op, Softmax):
        repair = "a softmax is kept only at the very end, in the analog read-out"
        return Problem(node.name, kind, "it stands inside the network", repair)
    return Problem(
        node.name, kind, "it has no integer meaning", "bring the graph to canonical form"
    )


def carries_spikes(graph: Graph) -> dict[str, bool]:
    """For every node, whether its output is made of spikes (or the input), not of weighted sums."""
    found: dict[str, bool] = {}
    for node in graph.nodes:
        if isinstance(node.op, Input | Activation):
            found[node.name] = True
        else:
            passes = isinstance(node.op, PASSES_SPIKES)
            found[node.name] = passes and all(found[name] for name in node.inputs)
    return found


def whole_factors(graph: Graph) -> Graph:
    """Leave sums with whole factors only: a scale ahead of the sum takes what is not whole."""
    nodes: list[Node] = []
    for node in graph.nodes:
        op = node.op
        if isinstance(op, Add) and any(bool((f != f.round()).any()) for f in op.factors):
            inputs, factors = [], []
            for index, (source, factor) in enumerate(zip(node.inputs, op.factors, strict=True)):
                if bool((factor != factor.round()).any()):
                    scale = ScaleShift(factor.abs(), torch.tensor(0.0))
                    name = graph.fresh(f"{node.name}.scaled.{index}")
                    nodes.append(Node(name, scale, (source,)))
                    source, factor = name, factor.sign()
                inputs.append(source)
                factors.append(factor)
            node = Node(node.name, Add(tuple(factors)), tuple(inputs))
        nodes.append(node)
    return graph.with_nodes(nodes)


def relay_sums(graph: Graph) -> Graph:
    """Put a relay neuron wherever a weighted layer would read sums."""
    spiking = carries_spikes(graph)
    nodes: list[Node] = []
    relays: dict[str, str] = {}
    for node in graph.nodes:
        if isinstance(node.op, WEIGHTED) and not spiking[source := node.inputs[0]]:
            if source not in relays:
                relays[source] = graph.fresh(f"{source}.relay")
                nodes.append(Node(relays[source], Relay(), (source,)))
            node = replace(node, inputs=(relays[source],))
        nodes.append(node)
    return graph.with_nodes(nodes)


def require_neurons(body: Graph) -> None:
    """Refuse a prepared graph without any neuron.

    Raises
    ------
    UnsupportedError
        Naming the last node.
    """
    if not any(isinstance(node.op, Activation) for node in body.nodes):
        last = body[body.outputs[0]]
        reason, repair = (
            "no activation lies before it: nothing would spike",
            "put ReLU between layers",
        )
        raise UnsupportedError([Problem(last.name, type(last.op).__name__, reason, repair)])
