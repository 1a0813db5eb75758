"""The cells that sources know by name, as graphs of ordinary nodes at one element of a sequence."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from spikemorph.graph import Graph, Input, Node
from spikemorph.graph.graph import Register

from .activation import Activation
from .joining import Add
from .linear import Linear
from .multiply import Multiply

_SUM = Add((torch.tensor(1.0), torch.tensor(1.0)))
_DIFFERENCE = Add((torch.tensor(1.0), torch.tensor(-1.0)))


@dataclass(frozen=True, eq=False)
class Gate:
    """What one gate does with the element and with the state: ``x_weight x + x_bias``, ``h_weight h +
    h_bias``; weights are (state, in) and (state, state)."""

    x_weight: Tensor
    h_weight: Tensor
    x_bias: Tensor | None
    h_bias: Tensor | None

    @property
    def of_x(self) -> Linear:
        """The part that reads the element."""
        return Linear(self.x_weight, self.x_bias)

    @property
    def of_h(self) -> Linear:
        """The part that reads the state."""
        return Linear(self.h_weight, self.h_bias)


def gates(
    count: int, x_weight: Tensor, h_weight: Tensor, x_bias: Tensor | None, h_bias: Tensor | None
) -> list[Gate]:
    """Gates whose weights a source keeps one below the other."""
    parts = [
        [None] * count if tensor is None else list(tensor.chunk(count))
        for tensor in (x_weight, h_weight, x_bias, h_bias)
    ]
    return [Gate(*part) for part in zip(*parts, strict=True)]


def plain_cell(gate: Gate, activation: Activation, h: Tensor) -> Graph:
    """``h' = activation(W x + U h + b)``; `h`, of one sample, is where the state starts."""
    nodes = _activated("state", gate, activation)
    return _cell(gate, nodes, {"h": (h, "state")})


def gru_cell(
    reset: Gate,
    update: Gate,
    new: Gate,
    h: Tensor,
    activations: Sequence[Activation],
    *,
    linear_before_reset: bool,
) -> Graph:
    """``h' = n + z (h - n)`` with ``n = g(W x + b + r (U h + c))`` or ``n = g(W x + b + U (r h) + c)``.

    The reset gate r and the update gate z have the first of `activations`, n has the second.
    """
    squash, bend = activations
    nodes = [*_activated("reset", reset, squash), *_activated("update", update, squash)]
    nodes.append(Node("new.x", new.of_x, ("x",)))
    if linear_before_reset:
        nodes += [
            Node("new.h", new.of_h, ("h",)),
            Node("new.reset", Multiply(), ("reset", "new.h")),
            Node("new.sum", _SUM, ("new.x", "new.reset")),
        ]
    else:
        nodes += [
            Node("new.reset", Multiply(), ("reset", "h")),
            Node("new.h", new.of_h, ("new.reset",)),
            Node("new.sum", _SUM, ("new.x", "new.h")),
        ]
    nodes += [
        Node("new", bend, ("new.sum",)),
        Node("change", _DIFFERENCE, ("h", "new")),
        Node("carried", Multiply(), ("update", "change")),
        Node("state", _SUM, ("new", "carried")),
    ]
    return _cell(new, nodes, {"h": (h, "state")})


def lstm_cell(
    taken: Gate,
    kept: Gate,
    new: Gate,
    shown: Gate,
    start: tuple[Tensor, Tensor],
    activations: Sequence[Activation],
) -> Graph:
    """``c' = f c + i g``, ``h' = o a(c')``: f what is kept, i what is taken, o what is shown.

    `start` is where h and c start. The gates have the first of `activations`, what is new (g) the
    second, the cell the third.
    """
    squash, bend, show = activations
    nodes = [
        *_activated("taken", taken, squash),
        *_activated("kept", kept, squash),
        *_activated("new", new, bend),
        *_activated("shown", shown, squash),
        Node("cell.kept", Multiply(), ("kept", "c")),
        Node("cell.new", Multiply(), ("taken", "new")),
        Node("cell", _SUM, ("cell.kept", "cell.new")),
        Node("cell.shown", show, ("cell",)),
        Node("state", Multiply(), ("shown", "cell.shown")),
    ]
    h, c = start
    return _cell(new, nodes, {"h": (h, "state"), "c": (c, "cell")})


def _activated(name: str, gate: Gate, activation: Activation) -> list[Node]:
    return [
        Node(f"{name}.x", gate.of_x, ("x",)),
        Node(f"{name}.h", gate.of_h, ("h",)),
        Node(f"{name}.sum", _SUM, (f"{name}.x", f"{name}.h")),
        Node(name, activation, (f"{name}.sum",)),
    ]


def _cell(gate: Gate, nodes: list[Node], lasting: dict[str, tuple[Tensor, str]]) -> Graph:
    """The graph of a cell; `lasting` has the start of each register, and what it takes."""
    entries = [Node("x", Input((gate.x_weight.shape[1],)))]
    entries += [Node(name, Input(tuple(start.shape))) for name, (start, _) in lasting.items()]
    registers = tuple(Register(name, start, after) for name, (start, after) in lasting.items())
    return Graph((*entries, *nodes), ("x",), ("state",), registers)
