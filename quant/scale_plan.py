"""Plan the scale of every edge before a single weight is rounded, so that sums share one scale.

At a join the terms must be whole multiples of one accumulator scale. A weighted layer read by the
join alone is elastic: its own scale is chosen to fit. All other terms are fixed.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction

import torch
from torch import Tensor

from spikemorph.graph import Graph, Node
from spikemorph.graph.interpret import shapes
from spikemorph.graph.nested import inside
from spikemorph.graph.tables import on_scales
from spikemorph.graph.traits import Moves, Pools, Recurs, Shape, Weighted, carries_spikes
from spikemorph.layers.activation import Activation
from spikemorph.layers.affine import ScaleShift, per_channel
from spikemorph.layers.joining import Add
from spikemorph.layers.moving import moved, widened

from .lasting import MEMORY_WEIGHT, memories, origins
from .observe import Steps
from .scales import Scale, as_reals, collapsed, common, naming, simple, snapped

FINEST = 8  # how many pieces a fixed term's unit is cut into to fit a coarser elastic layer
FEW = 7  # up to 4 bits: clipping large weights pays
DIAGONAL_BITS = 12  # for the integer factors of a scale that could not be folded


class Plan:
    """Scales of all edges of one prepared graph.

    Parameters
    ----------
    graph : Graph
        Canonical and prepared.
    sizes : dict
        One sample's shape after every node.
    entry : Fraction or mapping of str to Fraction
        The step of the input grid; of every input, by name, where they differ.
    steps : dict
        The ladder of every activation; of those in bodies by qualified name.
    largest : int
        The largest integer weight.
    learnt : mapping, optional
        For weighted layers whose weights' step was learnt, by qualified name: the step of every output
        channel, or one for all, as a share of the weights at the input's coarsest scale. Then weights
        decide nothing.
    """

    def __init__(
        self,
        graph: Graph,
        sizes: dict[str, tuple[int, ...]],
        entry: Fraction | Mapping[str, Fraction],
        steps: dict[str, Steps],
        largest: int,
        learnt: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        self.graph, self.sizes, self.entry = graph, sizes, entry
        self.steps, self.largest, self.learnt = steps, largest, learnt or {}
        self._spiking = carries_spikes(graph)
        self._inner: dict[str, Plan] = {}
        self._wide = set().union(*memories(graph).values())
        self._scales: dict[str, Scale] = {}
        for node in graph.nodes:
            if isinstance(node.op, Add):
                with naming(node.name):
                    self._plan_join(node)
        for node in graph.nodes:
            self.scale(node.name)

    def scale(self, name: str) -> Scale:
        """The real value of one unit of an edge, per channel or for all."""
        if name not in self._scales:
            with naming(name):
                self._scales[name] = collapsed(self._own_scale(self.graph[name]))
        return self._scales[name]

    def inner(self, node: Node) -> "Plan":
        """The scales inside a recurrent layer: what it reads has one, and so has each register."""
        if node.name not in self._inner:
            body, steps = _body(node), inside(self.steps, node.name)
            pairs = zip(body.inputs, node.inputs, strict=True)
            entry = {name: common(self.scale(source)) for name, source in pairs}
            for name, last in origins(body).items():
                entry[name] = entry[last] if last in entry else steps[last].unit[0]
            learnt = inside(self.learnt, node.name)
            plan = Plan(body, shapes(body), entry, steps, self.largest, learnt)
            self._inner[node.name] = plan
        return self._inner[node.name]

    def nested(self, path: str = "") -> Iterator[tuple[str, "Plan"]]:
        """This plan, and those inside its recurrent layers, with what qualified names begin with."""
        yield path, self
        for node in self.graph.nodes:
            if isinstance(node.op, Recurs):
                yield from self.inner(node).nested(f"{path}{node.name}/")

    def largest_of(self, node: Node) -> int:
        """The largest integer weight of one layer."""
        return max(self.largest, MEMORY_WEIGHT) if node.name in self._wide else self.largest

    def mixes(self, node: Node) -> bool:
        """Whether a node moves channels of different scales to one place, so they must be aligned."""
        return isinstance(node.op, Recurs) or self._passed(node) is None

    def _passed(self, node: Node) -> Scale | None:
        """The scale that follows from those of a node's inputs; None where these must be one first."""
        scales = [self.scale(name) for name in node.inputs]
        found: Scale | None = on_scales[type(node.op)](node.op, scales, self._shapes(node))
        return found

    def _shapes(self, node: Node) -> list[Shape]:
        return [self.sizes[name] for name in node.inputs]

    def weights(self, node: Node) -> Tensor:
        """A weighted layer's weights in units of its input: (out, in / groups, ...), float64."""
        op = node.op
        assert isinstance(op, Weighted)
        return in_units(op, as_reals(self.scale(node.inputs[0])))

    def _own_scale(self, node: Node) -> Scale:
        op = node.op
        if not node.inputs:
            return (self.entry if isinstance(self.entry, Fraction) else self.entry[node.name],)
        if isinstance(op, Activation):
            return self.steps[node.name].unit
        if isinstance(op, Weighted):
            return self.ideal(node)
        if isinstance(op, Recurs):
            inner = self.inner(node)
            return inner.scale(inner.graph.outputs[0])
        if isinstance(op, ScaleShift):
            return self._diagonal(node, op)
        found = self._passed(node)
        every = (s for name in node.inputs for s in self.scale(name))
        return (common(every),) if found is None else found

    def ideal(self, node: Node) -> Scale:
        """The scale that suits a weighted layer best, were it not for joins.

        As it was learnt; else the finest at which no weight is clipped, or, where weights have few
        bits, the one with the least error.
        """
        if node.name in self.learnt:
            coarsest = float(max(self.scale(node.inputs[0])))
            return tuple(snapped(step * coarsest) for step in self.learnt[node.name])
        weights = self.weights(node).flatten(1)
        peaks = self.heard_weights(node).flatten(1).abs().amax(1)
        spare = float(peaks.max()) or float(as_reals(self.scale(node.inputs[0])).max())
        largest = self.largest_of(node)
        scale = tuple(snapped((float(p) or spare) / largest, up=True) for p in peaks)
        return clipped_scale(weights, scale, largest) if largest <= FEW else scale

    def heard_weights(self, node: Node) -> Tensor:
        """As `weights`, 0 for channels that calibration never heard; all of a row that reads no other.

        A channel that is all but never above zero often has large weights behind it (a folded norm made
        its tiny variance large): these are clipped rather than that all others are rounded away.
        """
        op, (source,) = node.op, node.inputs
        assert isinstance(op, Weighted)
        heard = torch.tensor(self._heard(source), dtype=torch.float64)
        every = self.weights(node)
        some = in_units(op, as_reals(self.scale(source)) * heard)
        silent = (some == 0).flatten(1).all(1)
        return torch.where(silent.reshape(-1, *[1] * (every.dim() - 1)), every, some)

    def _heard(self, name: str) -> tuple[bool, ...]:
        """Which channels of an edge calibration samples ever moved from zero."""
        node = self.graph[name]
        if isinstance(node.op, Activation):
            return self.steps[name].heard
        if not isinstance(node.op, Moves | Pools):
            return (True,)
        parts = [self._heard(name) for name in node.inputs]
        return moved(node.op, parts, self._shapes(node)) or (True,)

    def _diagonal(self, node: Node, op: ScaleShift) -> Scale:
        source, gain = self.scale(node.inputs[0]), per_channel(op.gain)
        if gain is None:
            peak = float(op.gain.abs().max()) * float(as_reals(source).max())
            return (snapped(peak / 2**DIAGONAL_BITS, up=True),)
        if ratio := plain_ratio(op):
            return tuple(s * ratio for s in source)
        size = max(len(source), len(gain))
        peaks = as_reals(widened(source, size)) * gain.abs().double()
        spare = float(as_reals(source).max())
        return tuple(snapped((float(p) or spare) / 2**DIAGONAL_BITS, up=True) for p in peaks)

    def _plan_join(self, node: Node) -> None:
        elastic = [name for name in dict.fromkeys(node.inputs) if self._elastic(name)]
        fixed = [self.scale(name) for name in node.inputs if name not in elastic]
        ideals = [self.ideal(self.graph[name]) for name in elastic]
        size = max(len(scale) for scale in fixed + ideals)
        spikes = any(self._spiking[n] for n in node.inputs if n not in elastic)
        shared, pieces = [], []
        for channel in range(size):
            ideal = max((widened(i, size)[channel] for i in ideals), default=None)
            base = common(widened(f, size)[channel] for f in fixed) if fixed else None
            unit, count = _fit(base, ideal, spikes)
            shared.append(unit)
            pieces.append(count)
        self._scales[node.name] = collapsed(shared)
        for name in elastic:
            self._scales[name] = collapsed(
                [unit * count for unit, count in zip(shared, pieces, strict=True)]
            )

    def _elastic(self, name: str) -> bool:
        return isinstance(self.graph[name].op, Weighted) and self.graph.only_user(name) is not None


def _body(node: Node) -> Graph:
    assert isinstance(node.op, Recurs)
    return node.op.body


def in_units(op: Weighted, source: Tensor) -> Tensor:
    """A layer's weights in units of its input, whose scale is (channel,) or (1,); float64."""
    return op.weight.double() * (source if len(source) == 1 else op.beside(source))


def plain_ratio(op: ScaleShift) -> Fraction:
    """The factor of a pure positive scale, 0 where the op is more than that."""
    plain = op.gain.numel() == 1 and not bool((op.shift != 0).any()) and float(op.gain) > 0
    return simple(float(op.gain)) if plain else Fraction(0)


def _fit(base: Fraction | None, ideal: Fraction | None, spikes: bool) -> tuple[Fraction, int]:
    """The shared unit of a join, and how many of it one unit of its elastic terms is worth.

    `base` is what all fixed terms are multiples of, `ideal` the finest unit at which no elastic
    weight is clipped. Sums that are fixed are not cut finer than by half: they are fine already.
    """
    if ideal is None:
        assert base is not None
        return base, 1
    if base is None:
        return ideal, 1
    if ideal <= base:
        cuts = math.floor(base / ideal)
        return (base / cuts, 1) if spikes or cuts <= FINEST else (base / FINEST, 1)
    cuts = min(range(1, FINEST + 1), key=lambda q: Fraction(math.ceil(q * ideal / base), q))
    return base / cuts, math.ceil(cuts * ideal / base)


def clipped_scale(weights: Tensor, scale: Scale, largest: int) -> Scale:
    """A scale with the least squared error for few-bit weights: some large weights may be clipped.

    `weights` is (out, n) in units of the input; `scale` clips nothing.
    """
    shares = torch.linspace(0.4, 1, 31, dtype=torch.float64)
    full = as_reals(scale).expand(len(weights))
    errors = []
    for share in shares.tolist():
        unit = (full * share)[:, None]
        rounded = torch.floor(weights / unit + 0.5).clamp(-largest, largest)
        errors.append((rounded * unit - weights).square().sum(1))
    best = shares[torch.stack(errors).argmin(0)]
    return tuple(snapped(float(u)) for u in full * best)
