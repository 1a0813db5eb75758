"""Random integer networks, and the sums that each of their edges carries in time."""

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from spikemorph.graph import Graph, Input, Node, Op
from spikemorph.graph.grid import Grid
from spikemorph.graph.tables import on_integers
from spikemorph.layers.affine import ScaleShift
from spikemorph.layers.convolution import Convolution
from spikemorph.layers.joining import Add, Concat
from spikemorph.layers.ladder import Ladder, Line
from spikemorph.layers.linear import Linear
from spikemorph.layers.pooling import GlobalMax, MaxPool, SumPool
from spikemorph.layers.readout import Readout
from spikemorph.layers.shape import Pad, Reshape, Transpose
from spikemorph.layers.slicing import Narrow
from spikemorph.spiking import AnalogFirstStep, SpikingNetwork, Trace
from spikemorph.spiking.coding import BitPlane, Repeated, Thermometer
from spikemorph.spiking.neurons import BIF, IF, SNM, STBIF, burst, few_spikes, group, pow2

NEURONS = (pow2(), STBIF(), group(2), group(15), IF(), IF(capped=False), SNM(), BIF(), burst(3),
           few_spikes())  # fmt: skip
CODINGS = (AnalogFirstStep(), Repeated(3), BitPlane(), Thermometer(4))
ONE, NONE = (1, 1), ((0, 0), (0, 0))
KINDS = ("conv", "conv", "ladder", "ladder", "ladder", "add", "concat", "max", "sum", "scale",
         "pad", "narrow", "turn", "global")  # fmt: skip


@dataclass
class Growing:
    """An integer graph under construction, with the integers that four samples have at each node."""

    draw: st.DrawFn
    generator: torch.Generator
    nodes: list[Node] = field(default_factory=list)
    known: dict[str, Tensor] = field(default_factory=dict)

    def put(self, op: Op, *inputs: str) -> str:
        name = f"n{len(self.nodes)}"
        self.known[name] = on_integers[type(op)](op, *(self.known[i] for i in inputs))
        self.nodes.append(Node(name, op, inputs))
        return name

    def choose(self, *options: Any) -> Any:
        return self.draw(st.sampled_from(options))

    def whole(self, low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high + 1, shape, generator=self.generator)

    def maps(self) -> list[str]:
        """Nodes that still have positions, the latest ones first."""
        return [n.name for n in reversed(self.nodes) if self.known[n.name].dim() == 4]

    def grow(self, kind: str) -> None:
        source = self.choose(*self.maps()[:3])
        x = self.known[source]
        channels = x.shape[1]
        if kind == "conv":
            self.put(self.convolution(channels), source)
        elif kind == "ladder":
            self.put(self.ladder(x), source)
        elif kind == "add":
            others = [n for n in self.maps() if self.known[n].shape == x.shape]
            factors = self.whole(-2, 3, channels, 1, 1), self.whole(-2, 3)
            self.put(Add(factors), source, self.choose(*others))
        elif kind == "concat":
            fits = [n for n in self.maps() if self.known[n].shape[2:] == x.shape[2:]]
            self.put(Concat(1), source, self.choose(*fits))
        elif kind == "scale":
            shape = self.choose((), (channels, 1, 1), tuple(x.shape[1:]))
            self.put(ScaleShift(self.whole(-2, 2, *shape), self.whole(-9, 9, *shape)), source)
        elif kind == "pad":
            self.put(Pad(((0, 1), (1, 0))), source)
        elif kind == "narrow":
            self.put(Narrow(1, channels // 2, channels - channels // 2), source)
        elif kind == "turn":
            self.put(Transpose((0, 1, 3, 2)), source)
        elif kind == "global":
            self.put(GlobalMax(), source)
        else:
            self.put(self.pool(kind, min(x.shape[2:])), source)

    def convolution(self, channels: int) -> Convolution:
        groups = self.choose(*(g for g in (1, 2, channels) if channels % g == 0))
        out = groups * self.choose(1, 2) if groups < 4 else groups
        size = self.choose(1, 3)
        weight = self.whole(-3, 3, out, channels // groups, size, size)
        bias = self.choose(None, self.whole(-9, 9, out))
        side = size // 2
        padding = self.choose(((side, side), (side, side)), ((side, side + 1), (side, side)))
        return Convolution(weight, bias, self.choose(ONE, (2, 1)), padding, ONE, groups)

    def pool(self, kind: str, size: int) -> Op:
        kernel = min(self.choose(2, 3), size)
        stride, pad = self.choose(1, 2), self.choose(0, kernel // 2)
        pads = ((pad, pad), (pad, 0))
        if kind == "max":
            return MaxPool((kernel, kernel), (stride, stride), pads, ONE)
        return SumPool((kernel, kernel), (stride, stride), pads)

    def ladder(self, x: Tensor) -> Ladder:
        """Even, or uneven with rungs right at sums that occur; one for all channels, or one each."""
        rows, levels = self.choose(1, x.shape[1]), self.choose(1, 3, 15, 70)
        smin = self.choose(0, -(levels // 2))
        smax = smin + levels
        if self.draw(st.booleans()):
            seen = x.flatten()[torch.randint(x.numel(), (rows, levels), generator=self.generator)]
            return Ladder(seen.sort(1).values, smin, smax, Fraction(1))
        scale = self.whole(1, 3, rows)
        span = int(x.max() - x.min()) + 1
        threshold = self.whole(1, max(1, 4 * span // levels), rows)
        line = Line(threshold, scale, self.whole(-3, 3, rows) + threshold // 2)
        return Ladder(line.rungs(smin, smax), smin, smax, Fraction(1), line)


@st.composite
def integer_graphs(draw: st.DrawFn) -> tuple[Graph, Tensor]:
    """A random graph that ends in a linear layer and a read-out, and four inputs."""
    grid = Grid(Fraction(1), draw(st.sampled_from((0, -7))), draw(st.sampled_from((1, 7, 12))))
    shape = (draw(st.sampled_from((2, 4))), draw(st.integers(2, 4)), draw(st.integers(2, 4)))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**20)))
    net = Growing(draw, generator)
    net.known["x"] = net.whole(grid.low, grid.high, 4, *shape)
    net.nodes.append(Node("x", Input(shape, grid)))
    for kind in draw(st.lists(st.sampled_from(KINDS), min_size=2, max_size=8)):
        net.grow(kind)
    last = net.put(net.ladder(net.known[net.nodes[-1].name]), net.nodes[-1].name)
    flat = net.put(Reshape((net.known[last][0].numel(),)), last)
    weight = net.whole(-4, 4, 3, net.known[flat].shape[1])
    out = net.put(Linear(weight, net.whole(-9, 9, 3)), flat)
    end = net.put(Readout(net.whole(1, 4, 3), Fraction(1, 3)), out)
    return Graph(tuple(net.nodes), ("x",), (end,)), net.known["x"]


def sums_in_time(network: SpikingNetwork, x: Tensor, trace: Trace) -> dict[str, Tensor]:
    """(step, sample, ...) what every node has sent up to each step, worked out from spikes alone."""
    steps = range(1, trace.steps + 1)
    entered = torch.stack([network.coding.at(x, step, network.grid) for step in steps]).cumsum(0)
    found: dict[str, Tensor] = {}
    for node in network.graph.nodes:
        if isinstance(node.op, Input):
            found[node.name] = entered
        elif isinstance(node.op, Ladder):
            found[node.name] = trace.trains[node.name].cumsum(0)
        else:
            row, inputs = on_integers[type(node.op)], [found[name] for name in node.inputs]
            rows = [row(node.op, *(i[k] for i in inputs)) for k in range(trace.steps)]
            found[node.name] = torch.stack(rows)
    return found
