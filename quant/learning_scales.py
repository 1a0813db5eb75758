"""The scales of a network in training: planned from the steps as learnt, with gradients to these."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from spikemorph.graph import GraphError, Input, Node
from spikemorph.graph.brief import brief_repr
from spikemorph.graph.traits import Moves, Pools, Weighted
from spikemorph.layers.activation import Activation
from spikemorph.layers.affine import ScaleShift
from spikemorph.layers.carriers import float_carrier
from spikemorph.layers.joining import Add
from spikemorph.layers.ladder import Line
from spikemorph.layers.moving import channel_sources, widened

from .exact_floats import position_kind, through
from .ladders import even_line
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
    """

    plan: Plan
    scales: dict[str, Tensor]
    lines: dict[str, Line]
    factors: dict[str, list[Tensor]]
    bounds: dict[str, float]

    __repr__ = brief_repr

    @classmethod
    def of(
        cls, plan: Plan, ends: Mapping[str, float], device: torch.device, before: "Planned | None"
    ) -> "Planned":
        """Work a plan out.

        `ends` are the largest absolute whole input, and of every weighted layer the largest absolute
        bias; lines that stay are taken over from `before`.

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
        for node in nodes:
            terms = [bounds[name] for name in node.inputs]
            if node.name in factors:
                sizes = [float(f.abs().max()) for f in factors[node.name]]
                terms = [term * size for term, size in zip(terms, sizes, strict=True)]
            bounds[node.name] = _bound(node, plan, terms, ends)
            float_carrier(bounds[node.name], node.name)
            line = lines.get(node.name)
            if line is not None and position_kind(line, bounds[node.inputs[0]]) is None:
                raise GraphError(
                    f"node {node.name!r}: its step and the scale of its sums are too far apart for "
                    "53 bits; lower the learning rate"
                )
        return cls(plan, scales, lines, factors, bounds)

    @property
    def device(self) -> torch.device:
        """Where the scales lie."""
        return next(iter(self.scales.values())).device


def product_bound(op: Weighted, largest: int, peak: float) -> float:
    """What sums of absolute products cannot pass."""
    return float(largest) * op.weight[0].numel() * peak


def _lines(plan: Plan, device: torch.device, before: Planned | None) -> dict[str, Line]:
    lines = {}
    for node in plan.graph.nodes:
        if isinstance(node.op, Activation):
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


def _stays(before: Plan, node: Node, source: Scale, steps: Steps) -> bool:
    return before.scale(node.inputs[0]) == source and before.steps[node.name].unit == steps.unit


def _factors(node: Node, plan: Plan) -> list[Tensor] | None:
    op, own, rank = node.op, plan.scale(node.name), len(plan.sizes[node.name])
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
        steps = plan.steps[node.name]
        assert steps.smax is not None
        return float(max(-steps.smin, steps.smax))
    if isinstance(op, Weighted):
        bias = ends[node.name] / float(min(plan.scale(node.name))) + 1
        return product_bound(op, plan.largest, terms[0]) + bias
    if isinstance(op, Pools) and not op.picks:
        return op.cells(plan.sizes[node.inputs[0]]) * terms[0]
    return sum(terms) if isinstance(op, Add) else max(terms)


def soft_scales(planned: Planned, learnt: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Every node's scale as planned, bit for bit, with the gradient in the steps it was made of.

    `learnt` has the step of every activation, (channel,) or (1,), and of every weighted layer's
    weights, (out,), as shares of the weights at the input's coarsest scale; all float64. At a join the
    unit is taken as given: its terms carry the gradients, since ``sum(scale_i C_i)`` does not depend
    on it.
    """
    found: dict[str, Tensor] = {}
    plan = planned.plan
    for node in plan.graph.nodes:
        op, exact = node.op, planned.scales[node.name]
        sources = [found[name] for name in node.inputs]
        if isinstance(op, Activation):
            found[node.name] = through(exact.expand_as(learnt[node.name]), learnt[node.name])
        elif isinstance(op, Weighted):
            ideal = learnt[node.name] * sources[0].max()
            exact = exact.expand(len(ideal))
            found[node.name] = through(exact, ideal * (exact / ideal.detach()))
        elif isinstance(op, Input) or node.name in planned.factors:
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
