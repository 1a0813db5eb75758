"""By how much the true class stays ahead of each other one, with all that is linear at the end in one."""

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from spikemorph.graph import Graph, GraphError, Node, Op
from spikemorph.graph.interpret import Compute
from spikemorph.graph.tables import on_increments

from .boxes import Box
from .pooling import accumulate
from .readout import Softmax


def is_linear(op: Op) -> bool:
    """Whether an op is linear but for what it adds: increments pass it as they are."""
    return type(op) in on_increments and on_increments[type(op)] is not accumulate


def on_floats(node: Node, *inputs: Tensor) -> Tensor:
    """A linear node, of a float or an integer graph, in the number type of what it reads."""
    made: Tensor = (node.op if node.op.adds else partial(on_increments[type(node.op)], node.op))(
        *inputs
    )
    return made


def margins(
    graph: Graph, found: Mapping[str, Box], labels: Tensor, compute: Compute = on_floats
) -> Tensor:
    """Lower bounds of ``logit[label] - logit[j]`` for every class j: (sample, class).

    All linear nodes at the end, a residual sum among them, become one linear function of what was last
    not linear, and differences of its rows meet the boxes there: never looser, and mostly far tighter,
    than differences of the logits' bounds. At the label itself it is zero.

    Parameters
    ----------
    graph : Graph
        With one output, of one axis: the classes' logits; a softmax at the end is left out.
    found : mapping
        The nodes' boxes (`edge_boxes`), by name; those are read where what is linear begins.
    labels : Tensor
        (sample,) int64.
    compute : callable
        ``compute(node, *inputs)`` gives the output of a linear node; by its op if not given. Gradients
        reach what it computes with.

    Raises
    ------
    GraphError
        If the output is no row of classes.
    """
    ending = LinearEnd(graph, compute)
    at = [found[name] for name in ending.reads]
    rows = ending.rows(at)
    middle = ending(*(box.middle for box in at))
    order = labels.argsort(stable=True)
    parts = [middle[:0]]
    for label, mine in zip(
        range(middle.shape[1]), order.split(_counts(labels, middle)), strict=True
    ):
        reach = sum(
            box.radius[mine].flatten(1) @ (row[label] - row).flatten(1).abs().t()
            for row, box in zip(rows, at, strict=True)
        )
        parts.append(middle[mine, label][:, None] - middle[mine] - reach)
    return torch.cat(parts)[order.argsort()]


def _counts(labels: Tensor, logits: Tensor) -> list[int]:
    """How many samples each class has."""
    found: list[int] = torch.bincount(labels, minlength=logits.shape[1]).tolist()
    return found


class LinearEnd:
    """The linear nodes from which a graph's output is made, as one function of what they read.

    ``reads`` names the nodes that are not linear, or the input, whose values it takes. Where the last
    node itself is not linear, it is the identity on that node's.
    """

    def __init__(self, graph: Graph, compute: Compute = on_floats) -> None:
        self._graph, self._compute = graph, compute
        (self._wanted,) = graph.outputs
        while isinstance(graph[self._wanted].op, Softmax):
            (self._wanted,) = graph[self._wanted].inputs
        waiting, self._inside, reads = [self._wanted], set[str](), dict[str, None]()
        while waiting:
            name = waiting.pop()
            if not is_linear(graph[name].op):
                reads[name] = None
            elif name not in self._inside:
                self._inside.add(name)
                waiting += graph[name].inputs
        self.reads: Sequence[str] = tuple(reads)

    @property
    def depth(self) -> int:
        """How many nodes it is made of."""
        return len(self._inside)

    def __call__(self, *given: Tensor) -> Tensor:
        """(sample, class) logits, from the values (sample, *shape) of `reads`."""
        known = dict(zip(self.reads, given, strict=True))
        for node in self._graph.nodes:
            if node.name in self._inside:
                known[node.name] = self._compute(node, *(known[name] for name in node.inputs))
        logits = known[self._wanted]
        if logits.dim() != 2:
            raise GraphError(
                f"the output {self._wanted!r} has shape {tuple(logits.shape[1:])} a sample: margins are "
                "of classes, one logit each"
            )
        return logits

    def rows(self, boxes: Sequence[Box]) -> list[Tensor]:
        """For each of `reads` (class, *shape): what every class's logit multiplies it with."""
        kept = torch.is_grad_enabled()
        with torch.enable_grad():
            classes = self(*(torch.zeros_like(box.lower[:1]) for box in boxes)).shape[1]
            zeros = [
                box.lower.new_zeros((classes, *box.lower.shape[1:])).requires_grad_()
                for box in boxes
            ]
            own = self(*zeros).diagonal().sum()
            return list(torch.autograd.grad(own, zeros, create_graph=kept))
