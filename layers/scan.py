"""Recurrent layers: a graph with registers, run along an axis of a larger one."""

from dataclasses import dataclass
from typing import Annotated

from torch import Tensor

from spikemorph.graph import Graph, Op
from spikemorph.graph.calls import Refusal
from spikemorph.graph.fields import Between
from spikemorph.graph.interpret import Compute, by_name, on_reals, shapes
from spikemorph.graph.nested import not_taken
from spikemorph.graph.sequences import along
from spikemorph.graph.stages import PREPARED, Seat


@dataclass(frozen=True, eq=False)
class Scan(Op):
    """`body` at every element along an axis (that counts the batch); its outputs lie on that axis.

    The body has as many inputs as the node, which it reads element by element, and one output. Its
    registers start anew with every sample. `reverse` begins at the last element.
    """

    body: Graph
    axis: Annotated[int, Between(1)]
    reverse: bool

    def __post_init__(self) -> None:
        if len(self.body.outputs) != 1 or not self.body.inputs:
            raise ValueError("a body has one output, and an input or more")
        shapes(self.body)

    def __call__(self, *inputs: Tensor) -> Tensor:
        return self.computed(on_reals, *inputs)

    def computed(self, compute: Compute, *inputs: Tensor) -> Tensor:
        """As when called, with another meaning of the body's nodes."""
        pairs = zip(self.body.inputs, inputs, strict=True)
        xs = {name: x.movedim(self.axis, 1) for name, x in pairs}
        if len({x.shape[1] for x in xs.values()}) > 1:
            raise ValueError("its inputs have different numbers of elements")
        made = along(self.body, by_name(self.body, xs), compute, reverse=self.reverse)
        return made.movedim(1, self.axis)


@PREPARED(Scan)
def _not_yet(op: Scan, seat: Seat) -> None:
    raise Refusal(*not_taken("quantisation"))
