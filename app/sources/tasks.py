"""What a network answers, told from its graph and its samples."""

from dataclasses import replace

from torch import Tensor

from spikemorph.graph import Graph, InputError, Node, Op
from spikemorph.graph.interpret import shapes
from spikemorph.graph.tasks import Task, task_of
from spikemorph.layers.activation import Sigmoid
from spikemorph.layers.readout import Readout
from spikemorph.layers.shape import Identity, Reshape
from spikemorph.zoo import Samples


def task_for(graph: Graph, samples: Samples) -> Task:
    """The task that a float or integer graph has on these samples; see `task_with`."""
    return task_with(graph, samples.labels, samples.name, samples.task)


def task_with(graph: Graph, y: Tensor | None, where: str, said: str | None = None) -> Task:
    """The task that a float or integer graph has with these labels, which are found to be its.

    Raises
    ------
    InputError
        If it cannot be inferred and is not said, or a label is none of the task's.
    """
    (last,) = graph.outputs
    try:
        task = task_of(shapes(graph)[last], y, sigmoid=_final_sigmoid(graph) is not None, said=said)
    except InputError as error:
        raise error.under(where) from error
    task.require(y, where)
    return task


def without_sigmoid(graph: Graph) -> Graph:
    """The graph that gives the logits of one that ends in a sigmoid; any other as it is."""
    node = _final_sigmoid(graph)
    if node is None:
        return graph
    op: Op = Identity()
    if isinstance(node.op, Readout):
        op = replace(node.op, analog=node.op.analog[:-1])
    return graph.map(lambda n: replace(n, op=op) if n.name == node.name else n)


def _final_sigmoid(graph: Graph) -> Node | None:
    """The node whose sigmoid the outputs come from, unchanged."""
    node = graph[graph.outputs[0]]
    while isinstance(node.op, Identity | Reshape):
        node = graph[node.inputs[0]]
    analog = node.op.analog if isinstance(node.op, Readout) else (node.op,)
    return node if isinstance(analog[-1] if analog else None, Sigmoid) else None
