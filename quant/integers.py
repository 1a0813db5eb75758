"""Turn a float graph into an integer graph: the one place where reals become integers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import torch
from torch import Tensor

from spikemorph.graph import Graph, Input, Node, Op
from spikemorph.graph.brief import brief_repr
from spikemorph.graph.graph import Register
from spikemorph.graph.grid import Grid
from spikemorph.graph.interpret import shapes
from spikemorph.graph.nested import require_flat
from spikemorph.graph.traits import Recurs, Weighted
from spikemorph.layers.activation import Activation
from spikemorph.layers.affine import ScaleShift, per_channel
from spikemorph.layers.joining import Add
from spikemorph.layers.moving import widened
from spikemorph.layers.ranges import edge_ranges
from spikemorph.layers.readout import Analog, Readout

from .correction import correct_biases
from .ladders import build_ladder
from .lasting import origins, whole_start
from .observe import choose_steps
from .prepare import ready
from .rates import RATE_WEIGHTS, RateCoding, rate_steps
from .scale_plan import Plan, plain_ratio
from .scales import Scale, as_factors, as_reals, common, naming, narrow
from .seldom import noise, quiet_plan
from .settings import Quantisation

_FINER = 64  # a shift folded into a ladder is kept to this share of an accumulator's unit


def quantise_graph(graph: Graph, calibration: Tensor, grid: Grid, settings: Quantisation) -> Graph:
    """The integer graph of a canonical float graph.

    Weights are rounded per output channel, activations become ladders, joins are aligned to one
    accumulator scale, and a `Readout` brings the logits to one scale. Node names stay; aligning
    nodes are added.

    Parameters
    ----------
    graph : Graph
        Canonical (`spikemorph.convert.canonical`), one input, one output.
    calibration : Tensor
        (sample, *shape) real inputs, from training data.
    grid : Grid
        The integers that inputs lie on.
    settings : Quantisation
        Levels, bits, calibrator.

    Raises
    ------
    InputError
        If calibration data is empty, outside the grid, or leaves an activation silent.
    UnsupportedError
        Naming every node without integer meaning.
    """
    return quantised(graph, calibration, grid, settings).graph


@dataclass(frozen=True, eq=False)
class Quantised:
    """An integer graph, and what it was made of.

    Parameters
    ----------
    graph : Graph
        The integer graph.
    body : Graph
        The prepared float graph, node by node the same up to aligning nodes and the `Readout`.
    plan : Plan
        The scale of every edge of `body`.
    grid : Grid
        The integers that inputs lie on.
    samples : Tensor
        The calibration samples, as the grid has them.
    lengths : Tensor, optional
        (sample,) how many elements each of them has, where not all are full.
    """

    graph: Graph
    body: Graph
    plan: Plan
    grid: Grid
    samples: Tensor
    lengths: Tensor | None = None

    __repr__ = brief_repr


def quantised(
    graph: Graph,
    calibration: Tensor,
    grid: Grid,
    settings: Quantisation,
    lengths: Tensor | None = None,
) -> Quantised:
    """As `quantise_graph`, with what the integer graph was made of; of sequences of these lengths."""
    body, analog, x = prepared(graph, calibration, grid)
    steps = choose_steps(body, x, settings, lengths)
    plan = Plan(body, shapes(body), grid.step, steps, settings.largest_weight)

    def built(plan: Plan) -> Graph:
        made = Builder(body, plan, grid).build(analog)
        if settings.bias_correction:
            made = correct_biases(plan.graph, made, plan, x, grid, lengths)
        return made

    plans = [plan] if (quiet := quiet_plan(plan, x, settings)) is None else [plan, quiet]
    found = [Quantised(built(plan), body, plan, grid, x, lengths) for plan in plans]
    return min(found, key=lambda one: noise(one.graph, body, x)) if quiet else found[0]


def rate_graph(graph: Graph, calibration: Tensor, grid: Grid, settings: RateCoding) -> Graph:
    """The integer graph of a classical rate-coded network: 16-bit weights, thresholds without top.

    A spike of a layer is worth its threshold; nothing is exact (exactness.md, section 3bis). Raises
    as `quantise_graph` does.
    """
    require_flat(graph, "rate coding")
    body, analog, x = prepared(graph, calibration, grid)
    steps = rate_steps(body, x, settings)
    plan = Plan(body, shapes(body), grid.step, steps, RATE_WEIGHTS)
    return Builder(body, plan, grid).build(analog)


def prepared(
    graph: Graph, calibration: Tensor, grid: Grid
) -> tuple[Graph, tuple[Analog, ...], Tensor]:
    """The graph ready for integers, its analog end, and calibration samples as the grid has them.

    A graph whose inputs are declared to take other values than the grid's is refused.
    """
    body, analog = ready(graph.declare(grid.interval))
    return body, analog, grid.to_values(grid.to_integers(calibration))


@dataclass(frozen=True)
class _Absorbed:
    """A scale and shift that the ladders behind it take over, channel by channel."""

    scale: Scale
    shift: Scale


class Builder:
    """Builds the integer nodes, in running order; `grid` is the input's, or by the names of several."""

    def __init__(self, graph: Graph, plan: Plan, grid: Grid | Mapping[str, Grid]) -> None:
        self.graph, self.plan = graph, plan
        self.grids = {graph.inputs[0]: grid} if isinstance(grid, Grid) else dict(grid)
        self.nodes: list[Node] = []
        self.absorbed: dict[str, _Absorbed] = {}
        self.reads: dict[str, str] = {}  # float node -> integer node that stands for it

    def build(self, analog: tuple[Analog, ...]) -> Graph:
        """The integer graph, with a read-out behind its output."""
        self._take_all()
        (last,) = self.graph.outputs
        scale = self.plan.scale(last)
        unit = common(scale)
        with naming(last):
            factors = as_factors(scale, (unit,), 1)
        name = self.graph.fresh("readout")
        readout = Readout(factors.reshape(-1), unit, analog)
        self.nodes.append(Node(name, readout, (self.reads.get(last, last),)))
        return Graph(tuple(self.nodes), self.graph.inputs, (name,))

    def build_body(self) -> Graph:
        """The integer graph of a body, whose registers start on their grids."""
        registers = []
        for register in self.graph.registers:
            grid = self._lasting(register)
            self.grids[register.name] = grid
            start = whole_start(register, grid.step, grid.low, grid.high)
            registers.append(replace(register, start=narrow(start)))
        self._take_all()
        return Graph(tuple(self.nodes), self.graph.inputs, self.graph.outputs, tuple(registers))

    def _lasting(self, register: Register) -> Grid:
        """Where a register's values lie: on the levels, or on the grid, of what it takes."""
        last = origins(self.graph)[register.name]
        if last in self.grids:
            return self.grids[last]
        steps = self.plan.steps[last]
        assert steps.smax is not None
        return Grid(steps.unit[0], steps.smin, steps.smax)

    def _take_all(self) -> None:
        for node in self.graph.nodes:
            with naming(node.name):
                self._take(node)

    def _take(self, node: Node) -> None:
        op = node.op
        if isinstance(op, Input):
            self._put(node, replace(op, domain=self.grids[node.name]))
        elif isinstance(op, Recurs):
            self._recurs(node, op)
        elif isinstance(op, Weighted):
            self._put(node, self._weighted(node))
        elif isinstance(op, Activation):
            self._put(node, self._ladder(node, op))
        elif isinstance(op, ScaleShift):
            self._scale_shift(node, op)
        elif isinstance(op, Add):
            self._add(node, op)
        elif self.plan.mixes(node):
            self._aligned(node, self.plan.scale(node.name))
        else:
            self._put(node, op)

    def _put(self, node: Node, op: Op) -> None:
        inputs = tuple(self.reads.get(name, name) for name in node.inputs)
        self.nodes.append(Node(node.name, op, inputs))

    def _rank(self, name: str) -> int:
        return len(self.plan.sizes[name])

    def _weighted(self, node: Node) -> Op:
        op, scale = node.op, self.plan.scale(node.name)
        assert isinstance(op, Weighted)
        weights = self.plan.weights(node)
        unit = as_reals(scale).reshape(-1, *[1] * (weights.dim() - 1))
        largest = self.plan.largest_of(node)
        rounded = torch.floor(weights / unit + 0.5).clamp(-largest, largest)
        bias = torch.zeros(len(weights)) if op.bias is None else op.bias.double()
        per_row = as_reals(scale).reshape(-1, *[1] * (bias.dim() - 1))
        whole = torch.floor(bias / per_row + 0.5)
        return op.having(weight=narrow(rounded), bias=narrow(whole))

    def _ladder(self, node: Node, op: Activation) -> Op:
        (source,) = node.inputs
        steps = self.plan.steps[node.name]
        if source in self.absorbed:
            taken = self.absorbed[source]
            return build_ladder(op, steps, taken.scale, taken.shift)
        return build_ladder(op, steps, self.plan.scale(source), (Fraction(0),))

    def _scale_shift(self, node: Node, op: ScaleShift) -> None:
        (source,) = node.inputs
        gain, shift = per_channel(op.gain), per_channel(op.shift)
        users = self.graph.users(node.name)
        behind = bool(users) and all(isinstance(user.op, Activation) for user in users)
        scale = self.plan.scale(source)
        if self.plan.scale(node.name) == tuple(s * plain_ratio(op) for s in scale):
            self.reads[node.name] = self.reads.get(source, source)  # exact, as it was learnt
        elif (
            behind
            and gain is not None
            and shift is not None
            and node.name not in self.graph.outputs
        ):
            self._absorb(node, gain, shift)
        else:
            own = as_reals(self.plan.scale(node.name))
            rank = self._rank(node.name)
            unit, coming = (_wide(s, rank) for s in (own, as_reals(scale)))
            factor = torch.floor(op.gain.double() * coming / unit + 0.5)
            self._put(node, ScaleShift(narrow(factor), narrow(op.shift.double() / unit + 0.5)))

    def _absorb(self, node: Node, gain: Tensor, shift: Tensor) -> None:
        """Leave a scale and shift to the ladders; where the gain is negative, flip the sum's sign."""
        scale = self.plan.scale(node.inputs[0])
        size = max(len(scale), len(gain), len(shift))
        gains = gain.double().expand(size).tolist()
        real = [Fraction(abs(g)) * s for g, s in zip(gains, widened(scale, size), strict=True)]
        shifts = []
        for whole, fine in zip(
            shift.double().expand(size).tolist(), widened(scale, size), strict=True
        ):
            shifts.append(round(Fraction(whole) / fine * _FINER) * fine / _FINER)
        signs = torch.tensor([-1 if g < 0 else 1 for g in gains])
        rounded = tuple(_short(r) for r in real)
        self.absorbed[node.name] = _Absorbed(rounded, tuple(shifts))
        if bool((signs < 0).any()):
            wide = signs.reshape(-1, *[1] * (self._rank(node.name) - 1)) if size > 1 else signs[0]
            self._put(node, ScaleShift(narrow(wide), narrow(torch.zeros(()))))
        else:
            self.reads[node.name] = self.reads.get(node.inputs[0], node.inputs[0])

    def _add(self, node: Node, op: Add) -> None:
        unit, rank = self.plan.scale(node.name), self._rank(node.name)
        factors = tuple(
            narrow(as_factors(self.plan.scale(name), unit, rank) * f.to(torch.int64))
            for name, f in zip(node.inputs, op.factors, strict=True)
        )
        self._put(node, Add(factors))

    def _aligned(self, node: Node, unit: Scale) -> None:
        """Bring every input to one scale by integer factors, ahead of a node that mixes channels."""
        inputs = self._at(node, [unit] * len(node.inputs))
        self.nodes.append(Node(node.name, node.op, inputs))

    def _recurs(self, node: Node, op: Recurs) -> None:
        """A recurrent layer, which reads numbers of one scale at each input."""
        inner = self.plan.inner(node)
        inputs = self._at(node, [inner.scale(name) for name in op.body.inputs])
        bounds = edge_ranges(Graph(tuple(self.nodes), self.graph.inputs, inputs))
        grids = {}
        for name, source in zip(op.body.inputs, inputs, strict=True):
            bound, (unit,) = bounds[source].whole(), inner.scale(name)
            grids[name] = Grid(unit, int(bound.low), int(bound.high))
        body = Builder(op.body, inner, grids).build_body()
        self.nodes.append(Node(node.name, op.having(body=body), inputs))

    def _at(self, node: Node, units: Sequence[Scale]) -> tuple[str, ...]:
        """What a node reads, each input at a scale of its own: names, aligning nodes put ahead."""
        inputs: list[str] = []
        for name, unit in zip(node.inputs, units, strict=True):
            source = self.reads.get(name, name)
            factors = as_factors(self.plan.scale(name), unit, self._rank(name))
            if bool((factors != 1).any()):
                aligned = self.graph.fresh(f"{node.name}.aligned.{len(inputs)}")
                op = ScaleShift(narrow(factors), narrow(torch.zeros(())))
                self.nodes.append(Node(aligned, op, (source,)))
                source = aligned
            inputs.append(source)
        return tuple(inputs)


def _wide(values: Tensor, rank: int) -> Tensor:
    return values.reshape(-1, *[1] * (rank - 1)) if len(values) > 1 else values.reshape(())


def _short(value: Fraction) -> Fraction:
    """A fraction ``m * 2**e`` of 16 bits: what a ladder can hold without large numbers."""
    if value == 0:
        return value
    exponent = value.numerator.bit_length() - value.denominator.bit_length() - 16
    return round(value / Fraction(2) ** exponent) * Fraction(2) ** exponent
