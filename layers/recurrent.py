"""How sources spell recurrent layers: stacked, in one or both directions, samples first or second."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spikemorph.graph import Graph
from spikemorph.graph.calls import Call, Edge, Part, Refusal, Wiring, samples_anywhere
from spikemorph.graph.tables import reads_onnx, reads_torch

from .activation import Activation, ReLU, Sigmoid, Tanh
from .cells import gates, gru_cell, lstm_cell, plain_cell
from .joining import Concat
from .scan import Scan
from .shape import Reshape
from .slicing import Narrow

aten: Any = torch.ops.aten
_ACTIVATIONS: dict[str, Activation] = {"sigmoid": Sigmoid(), "tanh": Tanh(), "relu": ReLU()}
_NO_CELL = "the final cell state, which stays inside the layer"
_OWN_LENGTHS = "give sequences of one length to the layer, padded at their ends"


@dataclass(frozen=True, eq=False)
class _Layer:
    """The cells of one layer, by the order in which they go along the sequence."""

    cells: tuple[tuple[Graph, bool], ...]


def _stacked(edge: Edge, layers: Sequence[_Layer]) -> tuple[list[Part], list[Part]]:
    """Layers over (sample, element, feature), the last with the call's name; and every final state,
    (sample, 1, feature)."""
    parts: list[Part] = []
    finals: list[Part] = []
    source: Edge | str = edge
    for number, layer in enumerate(layers):
        name = "" if number == len(layers) - 1 else str(number)
        both = len(layer.cells) == 2
        sides = [f"{name}.{way}".strip(".") for way in ("forward", "reverse")] if both else [name]
        for side, (cell, reverse) in zip(sides, layer.cells, strict=True):
            parts.append(Part(side, Scan(cell, 1, reverse), (source,)))
            last = Narrow(1, 0 if reverse else edge.shape[0] - 1, 1)
            finals.append(Part(f"{side}.last".strip("."), last, (side,)))
        if both:
            parts.append(Part(name, Concat(2), tuple(sides)))
        source = name
    return parts, finals


def _wired(edge: Edge, layers: Sequence[_Layer]) -> tuple[list[Part], str]:
    """The parts of all layers, and the name of the one that has all final states, side by side."""
    parts, finals = _stacked(edge, layers)
    parts += finals
    if len(finals) == 1:
        return parts, finals[0].name
    return [*parts, Part("last.all", Concat(1), tuple(part.name for part in finals))], "last.all"


def _sequence(call: Call, batch: int) -> Edge:
    """What the layer goes along: (sample, element, feature) in the graph."""
    edge = call.input(0)
    if not isinstance(edge, Edge) or len(edge.shape) != 2:
        raise Refusal("it does not read (sample, element, feature)", "give it three axes")
    if edge.batch != batch:
        raise Refusal(
            f"it takes samples on axis {batch}, they lie on axis {edge.batch}",
            "say batch_first as the data is, or transpose it before",
        )
    return edge


def _start(value: Any, axis: int) -> Tensor:
    """Initial states (cell, state), from an array whose samples, all alike, lie on an axis."""
    if not isinstance(value, Tensor):
        raise Refusal("its initial state is computed", "store it in the model, one for all samples")
    first = value.select(axis, 0)
    if bool((value != first.unsqueeze(axis)).any()):
        raise Refusal("its initial state differs between samples", "give one for all samples")
    return first


# torch


@reads_torch(aten.rnn_tanh.input, aten.rnn_relu.input)
@samples_anywhere
def _read_plain_torch(call: Call) -> Wiring:
    activation = _ACTIVATIONS[call.op.removeprefix("rnn_")]
    return _torch(call, 1, 1, lambda g, s: plain_cell(g[0], activation, s[0]))


@reads_torch(aten.gru.input)
@samples_anywhere
def _read_gru_torch(call: Call) -> Wiring:
    both = Sigmoid(), Tanh()
    return _torch(
        call, 3, 1, lambda g, s: gru_cell(g[0], g[1], g[2], s[0], both, linear_before_reset=True)
    )


@reads_torch(aten.lstm.input)
@samples_anywhere
def _read_lstm_torch(call: Call) -> Wiring:
    three = Sigmoid(), Tanh(), Tanh()
    return _torch(call, 4, 2, lambda g, s: lstm_cell(g[0], g[1], g[2], g[3], (s[0], s[1]), three))


@reads_torch(aten.rnn_tanh.data, aten.rnn_relu.data, aten.gru.data, aten.lstm.data)
@samples_anywhere
def _refuse_packed(call: Call) -> Wiring:
    raise Refusal("its sequences are packed", _OWN_LENGTHS)


def _torch(call: Call, gate_count: int, states: int, cell: Callable[..., Graph]) -> Wiring:
    """The layers of one call; `cell` makes one of its gates, in torch's order, and initial states."""
    if call.option("train", False) and call.option("dropout", 0.0):
        raise Refusal("dropout is on", "export the model in eval mode: model.eval()")
    edge = _sequence(call, 0 if call.option("batch_first", False) else 1)
    given = call.input(1) if states > 1 else [call.input(1)]
    starts = [_start(value, 1) for value in given]
    weights = call.input(2)
    each = 4 if call.option("has_biases", True) else 2
    ways = 2 if call.option("bidirectional", False) else 1
    count = int(call.option("num_layers", 1)) * ways
    if len(weights) != each * count or starts[0].shape[1] != weights[1].shape[1]:
        raise Refusal("its state is projected", "train without proj_size")
    if len({start.shape for start in starts}) > 1 or not all(
        isinstance(w, Tensor) for w in weights
    ):
        raise Refusal("its weights or states are of another kind", "store them in the model")
    cells = []
    for number in range(count):
        own = list(weights[number * each : (number + 1) * each]) + [None] * (4 - each)
        made = cell(gates(gate_count, *own), [start[number] for start in starts])
        cells.append((made, number % ways == 1))
    layers = [_Layer(tuple(cells[k : k + ways])) for k in range(0, count, ways)]
    parts, last = _wired(edge, layers)
    return Wiring(tuple(parts), (("", edge.batch), (last, 1), _NO_CELL)[: 1 + states])


# ONNX


@reads_onnx("RNN")
@samples_anywhere
def _read_plain_onnx(call: Call) -> Wiring:
    return _onnx(call, 1, ("tanh",), lambda g, s, a: plain_cell(g[0], a[0], s[0]))


@reads_onnx("GRU")
@samples_anywhere
def _read_gru_onnx(call: Call) -> Wiring:
    before = bool(call.option("linear_before_reset", 0))

    def cell(g: Any, s: Any, a: Any) -> Graph:
        update, reset, new = g
        return gru_cell(reset, update, new, s[0], a, linear_before_reset=before)

    return _onnx(call, 3, ("sigmoid", "tanh"), cell)


@reads_onnx("LSTM")
@samples_anywhere
def _read_lstm_onnx(call: Call) -> Wiring:
    if call.input(7) is not None:
        raise Refusal("its gates read the cell state (peepholes)", "train without peepholes")
    if call.option("input_forget", 0):
        raise Refusal("its input and forget gates are one", "train with both")

    def cell(g: Any, s: Any, a: Any) -> Graph:
        taken, shown, kept, new = g
        return lstm_cell(taken, kept, new, shown, (s[0], s[1]), a)

    return _onnx(call, 4, ("sigmoid", "tanh", "tanh"), cell)


def _onnx(
    call: Call, gate_count: int, usual: tuple[str, ...], cell: Callable[..., Graph]
) -> Wiring:
    """One layer; `cell` makes one direction of gates, in ONNX's order, initial states, activations."""
    first = int(call.option("layout", 0)) == 1
    edge = _sequence(call, 0 if first else 1)
    if call.option("clip") is not None:
        raise Refusal("it clips what its gates read", "train without clip")
    direction = _text(call.option("direction", "forward"))
    ways = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}[direction]
    _require_full(call.input(4), edge.shape[0])
    weights, of_state = call.constant(1, "W"), call.constant(2, "R")
    biases, hidden = call.optional(3), of_state.shape[2]
    starts = [
        of_state.new_zeros(len(ways), hidden)
        if call.input(index) is None
        else _start(call.input(index), 0 if first else 1)
        for index in ((5, 6) if gate_count == 4 else (5,))
    ]
    cells = []
    for way, (reverse, chosen) in enumerate(
        zip(ways, _chosen(call, usual, len(ways)), strict=True)
    ):
        bias = [None, None] if biases is None else list(biases[way].chunk(2))
        own = gates(gate_count, weights[way], of_state[way], *bias)
        cells.append((cell(own, [start[way] for start in starts], chosen), reverse))
    parts, last = _wired(edge, [_Layer(tuple(cells))])
    parts.append(Part("all", Reshape((edge.shape[0], len(ways), hidden)), ("",)))
    places = (0, 0) if first else (2, 1)
    return Wiring(tuple(parts), (("all", places[0]), (last, places[1]), _NO_CELL))


def _chosen(call: Call, usual: tuple[str, ...], ways: int) -> list[list[Activation]]:
    """The activations of every direction.

    Raises
    ------
    Refusal
        Naming one that has no op here.
    """
    names = [_text(name).lower() for name in call.option("activations", usual * ways)]
    if odd := [name for name in names if name not in _ACTIVATIONS]:
        raise Refusal(
            f"its activation {odd[0]!r} is not supported", f"use one of {[*_ACTIVATIONS]}"
        )
    if len(names) != len(usual) * ways:
        raise Refusal(f"it has {len(names)} activations for {len(usual) * ways}", "check the model")
    found = [_ACTIVATIONS[name] for name in names]
    return [found[way * len(usual) : (way + 1) * len(usual)] for way in range(ways)]


def _require_full(lengths: Any, elements: int) -> None:
    """Refuse sequences that have lengths of their own."""
    if lengths is not None and not (
        isinstance(lengths, Tensor) and bool((lengths == elements).all())
    ):
        raise Refusal("its sequences have lengths of their own", _OWN_LENGTHS)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
