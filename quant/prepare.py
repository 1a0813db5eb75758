"""Make a canonical graph ready for integers: spikes before every weighted layer, analog ops last."""

from dataclasses import replace

import torch

from spikemorph.graph import Graph, Input, Node, Problem, UnsupportedError
from spikemorph.graph.nested import nested_nodes
from spikemorph.graph.stages import PREPARED, problems
from spikemorph.graph.traits import Fires, Recurs, Weighted, carries_spikes
from spikemorph.layers.activation import Activation, Relay
from spikemorph.layers.affine import ScaleShift
from spikemorph.layers.joining import Add
from spikemorph.layers.readout import Analog


def ready(graph: Graph) -> tuple[Graph, tuple[Analog, ...]]:
    """A canonical graph as it is rounded, and the ops at its end that stay in the analog read-out.

    Raises
    ------
    UnsupportedError
        Naming every node that has no integer meaning where it stands.
    """
    body, analog = split_analog(graph)
    body = relay_sums(whole_factors(body.map(_ready_inside)))
    if found := problems(body, PREPARED):
        raise UnsupportedError(found)
    return body, analog


def _ready_inside(node: Node) -> Node:
    """A node whose body, if it has one, is ready."""
    op = node.op
    if not isinstance(op, Recurs):
        return node
    return replace(node, op=op.having(body=relay_sums(whole_factors(relay_lasting(op.body)))))


def relay_lasting(body: Graph) -> Graph:
    """Put a relay neuron wherever a sum would last to the next element, or leave a body.

    The relay has the name of the sum, so that all that read it read what lasts.
    """
    for name in dict.fromkeys((*body.outputs, *(r.after for r in body.registers))):
        node = body[name]
        if not isinstance(node.op, Fires | Input):
            total = replace(node, name=body.fresh(f"{name}.sum"))
            body = body.substitute(name, total, Node(name, Relay(), (total.name,)))
    return body


def split_analog(graph: Graph) -> tuple[Graph, tuple[Analog, ...]]:
    """Take a final softmax, sigmoid or tanh off: it stays in the analog read-out."""
    analog: list[Analog] = []
    last = graph[graph.outputs[0]]
    while len(graph.outputs) == 1 and isinstance(last.op, Analog) and not graph.users(last.name):
        analog.insert(0, last.op)
        nodes = tuple(node for node in graph.nodes if node.name != last.name)
        graph = replace(graph, nodes=nodes, outputs=last.inputs)
        last = graph[graph.outputs[0]]
    return graph, tuple(analog)


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
        if isinstance(node.op, Weighted) and not spiking[source := node.inputs[0]]:
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
    if not any(isinstance(node.op, Activation) for _, node in nested_nodes(body)):
        last = body[body.outputs[0]]
        reason, repair = (
            "no activation lies before it: nothing would spike",
            "put ReLU between layers",
        )
        raise UnsupportedError([Problem(last.name, type(last.op).__name__, reason, repair)])
