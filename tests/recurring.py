"""Recurrent networks that several test files draw: cells with large weights, inputs that jump."""

from functools import partial

import torch
from torch import Tensor

from spikemorph.graph import Graph, Input, Node
from spikemorph.graph.graph import Register
from spikemorph.graph.grid import Grid
from spikemorph.graph.interpret import integer_compute, walk
from spikemorph.graph.traits import Recurs
from spikemorph.layers.activation import Clip, ReLU, Sigmoid, Tanh
from spikemorph.layers.cells import Gate, gru_cell, lstm_cell, plain_cell
from spikemorph.layers.joining import Add, Concat
from spikemorph.layers.ladder import Ladder
from spikemorph.layers.linear import Linear
from spikemorph.layers.scan import Scan
from spikemorph.layers.shape import Reshape
from spikemorph.layers.slicing import Narrow
from spikemorph.spiking import SpikingNetwork
from spikemorph.spiking.network import Carry

ONES = Add((torch.tensor(1.0), torch.tensor(1.0)))
GRID = Grid.of(0.0, 1.0, 4)
CELLS = ("tanh", "relu", "gru", "gru, reset first", "lstm", "memory", "delays")


def drawn_cell(kind: str, inputs: int, size: int, seed: int) -> Graph:
    """A body with random weights, large enough that states go to their ends."""
    draw = torch.Generator().manual_seed(seed)

    def numbers(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draw) * 1.5

    def gate() -> Gate:
        return Gate(numbers(size, inputs), numbers(size, size), numbers(size), numbers(size))

    start = torch.rand(size, generator=draw) - 0.5
    if kind in ("tanh", "relu"):
        return plain_cell(gate(), Tanh() if kind == "tanh" else Clip(0.0, 1.0), start.clamp(min=0))
    if kind.startswith("gru"):
        parts, early = [gate() for _ in range(3)], "first" not in kind
        return gru_cell(*parts, start, [Sigmoid(), Tanh()], linear_before_reset=early)
    if kind == "lstm":
        return lstm_cell(*(gate() for _ in range(4)), (start, start), [Sigmoid(), Tanh(), Tanh()])
    if kind == "memory":
        return memory_cell(numbers(size, size) / (3 * size), numbers(size, inputs))
    return delay_cell(numbers(size, inputs), numbers(size, inputs))


def memory_cell(kept: Tensor, taken: Tensor) -> Graph:
    """``m' = A m + B x``: linear, and read by nobody but itself before it leaves."""
    nodes = (
        Node("x", Input((taken.shape[1],))), Node("m", Input((len(kept),))),
        Node("kept", Linear(kept, None), ("m",)), Node("taken", Linear(taken, None), ("x",)),
        Node("memory", ONES, ("kept", "taken")),
    )  # fmt: skip
    return Graph(nodes, ("x",), ("memory",), (Register("m", torch.zeros(len(kept)), "memory"),))


def delay_cell(now: Tensor, before: Tensor) -> Graph:
    """A causal convolution: registers that take the input, and another register."""
    inputs = now.shape[1]
    nodes = (
        Node("x", Input((inputs,))), Node("late", Input((inputs,))), Node("later", Input((inputs,))),
        Node("now", Linear(now, None), ("x",)), Node("then", Linear(before, None), ("later",)),
        Node("sum", ONES, ("now", "then")), Node("out", ReLU(), ("sum",)),
    )  # fmt: skip
    zero = torch.zeros(inputs)
    registers = (Register("late", zero, "x"), Register("later", zero, "late"))
    return Graph(nodes, ("x",), ("out",), registers)


def around(*bodies: tuple[Graph, bool], elements: int, inputs: int, size: int) -> Graph:
    """One body after another, or two that read the same in both directions, then a read-out."""
    nodes = [Node("x", Input((elements, inputs)))]
    last, width = "x", size
    if len(bodies) == 2 and bodies[1][1]:
        for name, (body, reverse) in zip("ab", bodies, strict=True):
            nodes.append(Node(name, Scan(body, 1, reverse), ("x",)))
        nodes.append(Node("both", Concat(2), ("a", "b")))
        last, width = "both", 2 * size
    else:
        for name, (body, reverse) in zip("ab", bodies, strict=False):
            nodes.append(Node(name, Scan(body, 1, reverse), (last,)))
            last = name
    weight = torch.randn((3, width), generator=torch.Generator().manual_seed(width))
    nodes += [
        Node("last", Narrow(1, elements - 1, 1), (last,)),
        Node("flat", Reshape((width,)), ("last",)),
        Node("logits", Linear(weight, torch.ones(3)), ("flat",)),
    ]
    return Graph(tuple(nodes), ("x",), ("logits",))


def jumping(samples: int, elements: int, inputs: int, seed: int) -> Tensor:
    """Inputs on the grid, half of them at one of its ends: from element to element they jump."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randint(0, 16, (samples, elements, inputs), generator=draw)
    ends = torch.rand(x.shape, generator=draw) < 0.5
    return torch.where(ends, (x > 7) * 15, x).float() / 15


def settled_states(graph: Graph, x: Tensor) -> dict[str, Tensor]:
    """(sample, element, *shape) of every ladder in a body, by qualified name, by the definition."""
    found: dict[str, list[Tensor]] = {}

    def compute(inside: str, node: Node, *inputs: Tensor) -> Tensor:
        op = node.op
        if isinstance(op, Recurs):
            return op.computed(partial(compute, f"{node.name}/"), *inputs)
        made: Tensor = integer_compute(graph if not inside else bodies[inside])(node, *inputs)
        if inside and isinstance(op, Ladder):
            found.setdefault(f"{inside}{node.name}", []).append(made)
        return made

    bodies = {f"{n.name}/": n.op.body for n in graph.nodes if isinstance(n.op, Recurs)}
    back = {f"{n.name}/": n.op.reverse for n in graph.nodes if isinstance(n.op, Recurs)}
    for _ in walk(graph, GRID.to_integers(x), partial(compute, "")):
        pass
    ordered = {
        name: made[::-1] if back[f"{name.split('/')[0]}/"] else made for name, made in found.items()
    }
    return {name: torch.stack(made, 1) for name, made in ordered.items()}


def sent_states(network: SpikingNetwork, trains: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same from spikes alone: what a neuron has sent since it was at rest."""
    found = {}
    for name, train in trains.items():
        layer = name.split("/")[0]
        if layer == name:
            continue
        op = network.graph[layer].op
        assert isinstance(op, Recurs)
        sent = train.sum(0)
        if network.carry is Carry.DELTA:
            sent = sent.flip(1).cumsum(1).flip(1) if op.reverse else sent.cumsum(1)
        found[name] = sent
    return found
