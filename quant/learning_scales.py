"""The scales of a network in training: planned from the steps as learnt, with gradients to these."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

import torch
from torch import Tensor

from spikemorph.graph import Graph, GraphError, Input, Node
from spikemorph.graph.brief import brief_repr
from spikemorph.graph.nested import inside
from spikemorph.graph.traits import Moves, Pools, Recurs, Weighted
from spikemorph.layers.activation import Activation
from spikemorph.layers.affine import ScaleShift
from spikemorph.layers.carriers import float_carrier
from spikemorph.layers.joining import Add
from spikemorph.layers.ladder import Ladder, Line
from spikemorph.layers.moving import channel_sources, widened
from spikemorph.layers.multiply import Multiply

from .exact_floats import position_kind, through
from .ladders import build_ladder, even_line
from .lasting import origins, whole_start
from .observe import Steps
from .scale_plan import Plan
from .scales import Scale, as_factors, as_reals


@dataclass(frozen=True, eq=False)
class Planned:
    """What a plan says, ready for computing with; all mappings are by node.

    Parameters
    ----------
    plan : Plan
        Made of the learnt steps.
    scales : dict
        (channel,) or (1,), float64.
    lines : dict
        Of the activations.
    factors : dict
        Where inputs are brought to the node's scale: whole factors, int64, an `Add`'s own included.
    bounds : dict
        The largest absolute whole number that a node's output may be.
    ladders : dict
        Of the activations whose levels are not evenly spaced.
    inner : dict
        The same of the bodies of recurrent layers.
    started : dict
        The recurrent layers, with registers that start on whole numbers.
    """

    plan: Plan
    scales: dict[str, Tensor]
    lines: dict[str, Line]
    factors: dict[str, list[Tensor]]
    bounds: dict[str, float]
    ladders: dict[str, Ladder]
    inner: "dict[str, Planned]"
    started: dict[str, Recurs]

    __repr__ = brief_repr

    @classmethod
    def of(
        cls, plan: Plan, ends: Mapping[str, float], device: torch.device, before: "Planned | None"
    ) -> "Planned":
        """Work a plan out.

        `ends` are the largest absolute whole input, and of every weighted layer, by qualified name, the
        largest absolute bias; lines that stay are taken over from `before`.

        Raises
        ------
        GraphError
            If sums may pass 53 bits; the node is named.
        """
        nodes = plan.graph.nodes
        scales = {node.name: as_reals(plan.scale(node.name)).to(device) for node in nodes}
        lines = _lines(plan, device, before)
        factors = {node.name: f for node in nodes if (f := _factors(node, plan)) is not None}
        bounds: dict[str, float] = {}
        inner: dict[str, Planned] = {}
        started: dict[str, Recurs] = {}
        for node in nodes:
            terms = [bounds[name] for name in node.inputs]
            if node.name in factors:
                sizes = [float(f.abs().max()) for f in factors[node.name]]
                terms = [term * size for term, size in zip(terms, sizes, strict=True)]
            if isinstance(node.op, Recurs):
                old = None if before is None else before.inner[node.name]
                given = inside(ends, node.name) | _entering(node.op.body, plan.inner(node), terms)
                inner[node.name] = cls.of(plan.inner(node), given, device, old)
                started[node.name] = _started(node.op, inner[node.name])
                bounds[node.name] = inner[node.name].bounds[node.op.body.outputs[0]]
                continue
            bounds[node.name] = _bound(node, plan, terms, ends)
            float_carrier(bounds[node.name], node.name)
            line = lines.get(node.name)
            if line is not None and position_kind(line, bounds[node.inputs[0]]) is None:
                raise GraphError(
                    f"node {node.name!r}: its step and the scale of its sums are too far apart for "
                    "53 bits; lower the learning rate"
                )
        return cls(plan, scales, lines, factors, bounds, _ladders(plan, before), inner, started)

    @property
    def device(self) -> torch.device:
        """Where the scales lie."""
        return next(iter(self.scales.values())).device


def _entering(body: Graph, plan: Plan, terms: list[float]) -> dict[str, float]:
    """The largest absolute whole number at every input and register of a body."""
    found = dict(zip(body.inputs, terms, strict=True))
    for name, last in origins(body).items():
        found[name] = found[last] if last in found else _of_levels(plan.steps[last])
    return found


def _started(op: Recurs, inner: Planned) -> Recurs:
    registers = []
    for register in op.body.registers:
        last, (unit,) = origins(op.body)[register.name], inner.plan.scale(register.name)
        most = inner.bounds[last]
        steps = inner.plan.steps.get(last)
        low, high = (-most, most) if steps is None else (steps.smin, steps.smax or 0)
        registers.append(replace(register, start=whole_start(register, unit, low, high)))
    return op.having(body=replace(op.body, registers=tuple(registers)))


def product_bound(op: Weighted, largest: int, peak: float) -> float:
    """What sums of absolute products cannot pass."""
    return float(largest) * op.weight[0].numel() * peak


def _lines(plan: Plan, device: torch.device, before: Planned | None) -> dict[str, Line]:
    lines = {}
    for node in plan.graph.nodes:
        if isinstance(node.op, Activation) and node.op.straight:
            source, steps = plan.scale(node.inputs[0]), plan.steps[node.name]
            if before is not None and _stays(before.plan, node, source, steps):
                lines[node.name] = before.lines[node.name]
                continue
            size = max(len(source), len(steps.unit))
            pairs = list(zip(widened(source, size), widened(steps.unit, size), strict=True))
            kinds = {pair: k for k, pair in enumerate(dict.fromkeys(pairs))}  # few: short mantissas
            line = even_line(steps.start, [(s, Fraction(0), unit) for s, unit in kinds])
            rows = torch.tensor([kinds[pair] for pair in pairs])
            parts = (t[rows].to(device) for t in (line.threshold, line.scale, line.start))
            lines[node.name] = Line(*parts)
    return lines


def _ladders(plan: Plan, before: Planned | None) -> dict[str, Ladder]:
    ladders = {}
    for node in plan.graph.nodes:
        if isinstance(node.op, Activation) and not node.op.straight:
            source, steps = plan.scale(node.inputs[0]), plan.steps[node.name]
            if before is not None and _stays(before.plan, node, source, steps):
                ladders[node.name] = before.ladders[node.name]
            else:
                ladders[node.name] = build_ladder(node.op, steps, source, (Fraction(0),))
    return ladders


def _stays(before: Plan, node: Node, source: Scale, steps: Steps) -> bool:
    return before.scale(node.inputs[0]) == source and before.steps[node.name].unit == steps.unit


def _factors(node: Node, plan: Plan) -> list[Tensor] | None:
    op, own, rank = node.op, plan.scale(node.name), len(plan.sizes[node.name])
    if isinstance(op, Recurs):
        pairs = zip(node.inputs, op.body.inputs, strict=True)
        inner = plan.inner(node)
        return [as_factors(plan.scale(n), inner.scale(i), len(plan.sizes[n])) for n, i in pairs]
    if isinstance(op, Add):
        whole = [as_factors(plan.scale(name), own, rank) for name in node.inputs]
        return [w * f.to(torch.int64) for w, f in zip(whole, op.factors, strict=True)]
    if not isinstance(op, Moves | Pools):
        return None
    # Terms that meet keep their factors while they are 1: their steps are learnt apart.
    mixes = plan.mixes(node) if len(node.inputs) == 1 else _sources(node, plan) is None
    if mixes:
        return [as_factors(plan.scale(n), own, len(plan.sizes[n])) for n in node.inputs]
    return None


def _bound(node: Node, plan: Plan, terms: list[float], ends: Mapping[str, float]) -> float:
    """The largest absolute whole number at a node, from those of its inputs."""
    op = node.op
    if isinstance(op, Input):
        return ends[node.name]
    if isinstance(op, Activation):
        return _of_levels(plan.steps[node.name])
    if isinstance(op, Weighted):
        bias = ends[node.name] / float(min(plan.scale(node.name))) + 1
        return product_bound(op, plan.largest_of(node), terms[0]) + bias
    if isinstance(op, Multiply):
        return terms[0] * terms[1]
    if isinstance(op, Pools) and not op.picks:
        return op.cells(plan.sizes[node.inputs[0]]) * terms[0]
    return sum(terms) if isinstance(op, Add) else max(terms)


def _of_levels(steps: Steps) -> float:
    assert steps.smax is not None
    return float(max(-steps.smin, steps.smax))


def soft_scales(planned: Planned, learnt: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Every node's scale as planned, bit for bit, with the gradient in the steps it was made of.

    Those of nodes inside recurrent layers stand under qualified names.

    `learnt` has the step of every activation, (channel,) or (1,), and of every weighted layer's
    weights, (out,), as shares of the weights at the input's coarsest scale; all float64. At a join the
    unit is taken as given: its terms carry the gradients, since ``sum(scale_i C_i)`` does not depend
    on it.
    """
    found: dict[str, Tensor] = {}
    plan = planned.plan
    taken = origins(plan.graph)
    for node in plan.graph.nodes:
        op, exact = node.op, planned.scales[node.name]
        sources = [found[name] for name in node.inputs]
        step = learnt.get(taken.get(node.name, node.name))  # a register's is that of what it takes
        if isinstance(op, Activation | Input):
            found[node.name] = exact if step is None else through(exact.expand_as(step), step)
        elif isinstance(op, Weighted):
            ideal = learnt[node.name] * sources[0].max()
            exact = exact.expand(len(ideal))
            found[node.name] = through(exact, ideal * (exact / ideal.detach()))
        elif isinstance(op, Recurs):
            inner = soft_scales(planned.inner[node.name], inside(learnt, node.name))
            found |= {f"{node.name}/{name}": scale for name, scale in inner.items()}
            found[node.name] = inner[op.body.outputs[0]]
        elif isinstance(op, Multiply):
            found[node.name] = through(exact.expand_as(both := sources[0] * sources[1]), both)
        elif node.name in planned.factors:
            found[node.name] = exact
        elif isinstance(op, ScaleShift):
            found[node.name] = through(exact.expand_as(sources[0]), sources[0] * float(op.gain))
        else:
            found[node.name] = _moved(node, plan, sources)
    return found


def _moved(node: Node, plan: Plan, scales: list[Tensor]) -> Tensor:
    if len(scales) == 1 and len(scales[0]) == 1:
        return scales[0]
    sources = _sources(node, plan)
    if sources is None:  # the channels that mix have one scale: any of them
        return scales[0][:1]
    wide = [s.expand(plan.sizes[name][0]) for s, name in zip(scales, node.inputs, strict=True)]
    return torch.cat(wide)[sources.to(wide[0].device)]


def _sources(node: Node, plan: Plan) -> Tensor | None:
    return channel_sources(node.op, [plan.sizes[name] for name in node.inputs])
