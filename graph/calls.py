"""What a source file says of one call, in the form that the reader rows of the layers take."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

Row = TypeVar("Row", bound=Callable[..., Any])


@dataclass(frozen=True)
class Edge:
    """A computed value: the name of the node that makes it, and one sample's shape.

    Samples lie on axis 0 in the graph, on the axis `batch` in the source.
    """

    name: str
    shape: tuple[int, ...]
    batch: int = 0

    @property
    def rank(self) -> int:
        """How many axes it has, that of samples among them."""
        return len(self.shape) + 1

    def axis(self, index: int) -> int:
        """The graph's axis for one of the source's, which counts from the back where negative."""
        index %= self.rank
        if index == self.batch:
            return 0
        return index + 1 if index < self.batch else index

    def sized(self, index: int) -> int:
        """How large one of the source's axes is, 1 for that of samples."""
        return (1, *self.shape)[self.axis(index)]


class Refusal(Exception):
    """Raised by a reader row: this call has no exact meaning here; reason and repair."""

    def __init__(self, reason: str, repair: str = "change the model or ask for support") -> None:
        super().__init__(reason)
        self.reason = reason
        self.repair = repair


@dataclass(frozen=True)
class Pieces:
    """What a row returns for a call with several outputs: an op for each, all of one input."""

    ops: tuple[Any, ...]


@dataclass(frozen=True)
class Placed:
    """What a row returns for a chain behind which samples lie on another axis than before."""

    ops: tuple[Any, ...]
    batch: int


@dataclass(frozen=True)
class Part:
    """One node of a `Wiring`: its name, behind that of the call ("" for the call's own); what it reads
    are edges, or parts before it by name."""

    name: str
    op: Any
    inputs: tuple[Edge | str, ...]


@dataclass(frozen=True)
class Wiring:
    """What a row returns for a call that is several nodes.

    For each output of the call there is a part's name with the axis that samples lie on, or, where it
    is not computed, the reason.
    """

    parts: tuple[Part, ...]
    outputs: tuple[tuple[str, int] | str, ...]


_ANYWHERE: set[Callable[..., Any]] = set()


def samples_anywhere(row: Row) -> Row:
    """Mark a reader row that asks its edges where samples lie; others are not called unless first."""
    _ANYWHERE.add(row)
    return row


def takes_samples_anywhere(row: Callable[..., Any]) -> bool:
    """Whether a row was marked so."""
    return row in _ANYWHERE


@dataclass(frozen=True)
class Call:
    """One call whose constants are known.

    ``inputs`` holds, in the operator's order, edges for computed values, tensors for constants and
    None for what was left out. ``options`` holds ONNX attributes or torch's remaining arguments.
    ``version`` is the ONNX operator set; 0 for torch. ``sizes`` is its output's shape, samples
    included, where the source states it, and ``places`` the axes that samples may lie on there;
    ``outputs`` counts the values that the call makes.
    """

    name: str
    op: str
    inputs: tuple[Any, ...]
    options: Mapping[str, Any]
    version: int = 0
    sizes: tuple[int, ...] = ()
    places: tuple[int, ...] = (0,)
    outputs: int = 1

    @property
    def edges(self) -> tuple[Edge, ...]:
        """The computed inputs, in order; those in lists (concatenation) too."""
        flat: list[Any] = []
        for item in self.inputs:
            flat.extend(item if isinstance(item, list | tuple) else [item])
        return tuple(item for item in flat if isinstance(item, Edge))

    @property
    def edge(self) -> Edge:
        """The one computed input."""
        if len(self.edges) != 1:
            raise Refusal(
                f"it has {len(self.edges)} computed inputs, one is expected",
                "only products and sums with constants keep spikes exact here",
            )
        return self.edges[0]

    def input(self, index: int) -> Any:
        """The input at a position, None if absent."""
        return self.inputs[index] if index < len(self.inputs) else None

    def reshaped(self) -> tuple[tuple[int, ...], int]:
        """One sample's shape behind a call that keeps numbers in order, and the axis of samples."""
        (edge,) = self.edges
        before = math.prod(edge.shape[: edge.batch])
        fits = [place for place in self.places if math.prod(self.sizes[:place]) == before]
        if not fits:
            raise Refusal(
                f"it turns samples of shape {edge.shape} into {self.sizes}, which moves the batch axis",
                "keep samples on the first axis",
            )
        place = edge.batch if edge.batch in fits else fits[0]
        return self.sizes[:place] + self.sizes[place + 1 :], place

    def constant(self, index: int, what: str) -> Tensor:
        """A constant tensor input itself, so that ties stay; refused where it is computed."""
        value = self.input(index)
        if isinstance(value, Tensor):
            return value
        if isinstance(value, int | float):
            return torch.tensor(value)
        raise Refusal(f"its {what} is not a constant", "store the parameter in the model file")

    def optional(self, index: int) -> Tensor | None:
        """A constant tensor that may be absent."""
        return None if self.input(index) is None else self.constant(index, f"input {index}")

    def option(self, name: str, default: Any = None) -> Any:
        """An attribute, or its default where the source leaves it out."""
        value = self.options.get(name, default)
        return default if value is None else value

    def refuse_unless(self, name: str, allowed: Sequence[Any], default: Any) -> None:
        """Refuse the call where an attribute has a value that nothing here computes."""
        value = self.option(name, default)
        if value not in allowed:
            raise Refusal(f"its {name} is {value!r}, which is not supported (only {allowed})")
