"""What a network answers, told from its graph and its samples."""

from torch import Tensor

from spikemorph.graph import Graph, InputError
from spikemorph.graph.interpret import shapes
from spikemorph.graph.tasks import Task, task_of
from spikemorph.layers.activation import Sigmoid
from spikemorph.layers.readout import Readout
from spikemorph.layers.shape import Identity, Reshape
from spikemorph.zoo import Samples


def task_for(graph: Graph, samples: Samples) -> Task:
    """The task that a float or integer graph has on these samples; see `task_with`."""
    return task_with(graph, samples.y, samples.name, samples.task)


def task_with(graph: Graph, y: Tensor | None, where: str, said: str | None = None) -> Task:
    """The task that a float or integer graph has with these labels, which are found to be its.

    Raises
    ------
    InputError
        If it cannot be inferred and is not said, or a label is none of the task's.
    """
    (last,) = graph.outputs
    try:
        task = task_of(shapes(graph)[last], y, sigmoid=_ends_in_sigmoid(graph), said=said)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    task.require(y, where)
    return task


def _ends_in_sigmoid(graph: Graph) -> bool:
    node = graph[graph.outputs[0]]
    while isinstance(node.op, Identity | Reshape):
        node = graph[node.inputs[0]]
    if isinstance(node.op, Readout) and node.op.analog:
        return isinstance(node.op.analog[-1], Sigmoid)
    return isinstance(node.op, Sigmoid)
