"""What a source file says of one call, in the form that the reader rows of the layers take."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Edge:
    """A computed value: the name of the node that makes it, and one sample's shape."""

    name: str
    shape: tuple[int, ...]


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
class Call:
    """One call whose constants are known.

    ``inputs`` holds, in the operator's order, edges for computed values, tensors for constants and
    None for what was left out. ``options`` holds ONNX attributes or torch's remaining arguments.
    ``version`` is the ONNX operator set; 0 for torch. ``output`` is one sample's output shape where
    the source states it; ``outputs`` counts the values that the call makes.
    """

    name: str
    op: str
    inputs: tuple[Any, ...]
    options: Mapping[str, Any]
    version: int = 0
    output: tuple[int, ...] | None = None
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
