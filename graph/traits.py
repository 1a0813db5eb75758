"""What kinds of ops there are: what other rooms ask of an op, so that none of them lists op classes.

A trait is a base class. Rows of tables may be keyed by it (`Table` looks an op's class up with all its
base classes), so an op with a trait needs rows only where it differs.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from torch import Tensor

from .graph import Graph, Input, Op

Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Moves(Op, abstract=True):
    """Only moves numbers: each one that it makes is one that it reads, or zero.

    So it means the same on reals, integers, increments and marks; it passes spikes on, adds nothing,
    costs nothing, and makes zero of zero.
    """


@dataclass(frozen=True, eq=False)
class Pools(Op, abstract=True):
    """Makes one number of all that each window holds, channel by channel, and zero of zero.

    It commutes with factors above zero; where it `picks` the greatest, with every function that does
    not fall, too. Else it makes a sum or a mean. `cells` and `windows` are asked of those only that
    integer graphs may hold.
    """

    picks: ClassVar[bool] = False

    def cells(self, shape: Shape) -> int:
        """How many numbers a window holds, on samples of `shape` (channel, *size)."""
        raise NotImplementedError(f"{type(self).__name__} has no windows")

    def picked(self, x: Tensor, by: Tensor) -> Tensor:
        """Of each window the number of `x` where `by`, shaped alike, is greatest; of equals the first."""
        raise NotImplementedError(f"{type(self).__name__} picks none of its numbers")

    def windows(self, shape: Shape) -> Tensor:
        """In how many windows each number of a sample of `shape` is: int64, of that shape."""
        raise NotImplementedError(f"{type(self).__name__} has no windows")


class Weighted(Op, abstract=True):
    """Sums of products with weights that can be learnt, and a bias: linear but for that.

    The first axis of the weight, and of the bias, counts output channels. The second counts those of
    one group of input channels; these lie along the axis `reads` of a sample. ``mask`` says which
    weights are kept (`layers.masks`).
    """

    # What each op has as fields of its own, in its own order.
    weight: Tensor
    bias: Tensor | None
    mask: Tensor | None
    groups: int = 1
    reads: ClassVar[int] = 0
    local: ClassVar[bool] = False  # whether an output sees a window of its input, not all of it

    def products(self, x: Tensor) -> Tensor:
        """What it makes without its bias, in the number type of `x`."""
        raise NotImplementedError

    def beside(self, values: Tensor) -> Tensor:
        """A number for each input channel, or (1,) for all, to multiply the weight with."""
        raise NotImplementedError

    def spread(self, bias: Tensor) -> Tensor:
        """A bias as what is added to `products`."""
        return bias

    @property
    def adds(self) -> bool:
        return self.bias is not None

    def having(self, **changed: Any) -> Self:
        """The same layer with another `weight`, `bias`, `mask` or number of `groups`."""
        return replace(self, **changed)


@dataclass(frozen=True, eq=False)
class Fires(Op, abstract=True):
    """Where spikes are made: an activation of a float graph, a ladder of an integer graph."""


class Recurs(Op, abstract=True):
    """Runs a graph with registers along an axis of what it reads; on integers, spikes leave it."""

    # What each op has as fields of its own, in its own order.
    body: Graph
    axis: int  # that counts the batch
    reverse: bool

    def having(self, **changed: Any) -> Self:
        """The same with another `body`."""
        return replace(self, **changed)

    def computed(
        self, compute: Callable[..., Tensor], *inputs: Tensor, lengths: Tensor | None = None
    ) -> Tensor:
        """As when called, with ``compute(node, *inputs)`` for the nodes of the body.

        `lengths` (sample,) says how many elements each sample has; the others change nothing.
        """
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class Ends(Op, abstract=True):
    """Reads the outputs off: the last node of an integer graph."""


def carries_spikes(graph: Graph) -> dict[str, bool]:
    """For every node, whether its output is made of spikes (or the input), not of weighted sums."""
    found: dict[str, bool] = {}
    for node in graph.nodes:
        passes = isinstance(node.op, Moves | Pools) and all(found[i] for i in node.inputs)
        found[node.name] = passes or isinstance(node.op, Input | Fires | Recurs)
    return found
