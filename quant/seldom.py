"""Keep channels that seldom speak, and are loud then, from rounding away and stretching all others."""

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from spikemorph.graph import Graph, InputError, Node, run
from spikemorph.graph.nested import recurs
from spikemorph.graph.traits import Weighted
from spikemorph.layers.integer_pass import IntegerPass
from spikemorph.layers.masks import weight_of, weighted_nodes
from spikemorph.layers.readout import Readout

from .observe import Steps, choose_steps
from .scale_plan import Plan
from .settings import Quantisation

LOUD = 4.0  # how far a weight must pass those of all other channels: it costs these two bits
ROUNDS = 8  # what is clipped in one layer changes what is seen in those behind it
JUDGES = 256  # samples that say which plan is nearer to the float network


def quiet_plan(plan: Plan, x: Tensor, settings: Quantisation) -> Plan | None:
    """A plan in which channels that seldom speak decide nothing; None where none of them is loud.

    The weights behind them are clipped to the range of all others. Steps are chosen by what samples `x`
    do in the network as clipped, where a rare event does not grow from layer to layer.
    """
    if all(steps.often == steps.heard for steps in plan.steps.values()):
        return None
    if recurs(plan.graph):
        return None  # what is rare in one element is not in a sequence
    judge = _deaf(plan, plan.steps)
    if not any(_is_loud(node, judge) for node in plan.graph.nodes):
        return None
    steps, clipped = plan.steps, plan.graph
    for _ in range(ROUNDS):
        before, clipped = clipped, plan.graph.map(partial(_clipped, judge))
        if _same(before, clipped):
            break
        try:
            steps = choose_steps(clipped, x, settings)
        except InputError:
            return None  # nothing but rare events wakes one of its layers
        judge = _deaf(plan, steps)  # what was loud only by another's noise is given back
    return Plan(clipped, plan.sizes, plan.entry, steps, plan.largest)


def noise(integer: Graph, body: Graph, x: Tensor) -> float:
    """How far the last of the samples `x` end from the float network: a mean from 0 to 1.

    Each sample says which share of its outputs is error, so that one with a rare event has no more to
    say than any other.
    """
    x = x[-JUDGES:]
    last = integer[integer.outputs[0]]
    assert isinstance(last.op, Readout)
    sums = replace(last, op=replace(last.op, analog=()))
    with torch.no_grad():
        wishes = run(body, x).double()
        found = IntegerPass(integer.map(lambda n: sums if n is last else n)).outputs(x)
    error = (found - wishes).square().flatten(1).sum(1)
    signal = (wishes - wishes.median(0).values).square().flatten(1).sum(1)
    total = error + signal + signal.median()
    return float((error / total.clamp(min=torch.finfo(torch.float64).tiny)).mean())


def _deaf(plan: Plan, steps: dict[str, Steps]) -> Plan:
    """A plan that hears only channels that speak often."""
    often = {name: replace(one, heard=one.often) for name, one in steps.items()}
    return Plan(plan.graph, plan.sizes, plan.entry, often, plan.largest)


def _peaks(node: Node, judge: Plan) -> tuple[Tensor, Tensor]:
    """Weights in units of their input, and the largest of each row behind channels that speak often."""
    weights = judge.weights(node)
    peaks = judge.heard_weights(node).flatten(1).abs().amax(1)
    return weights, peaks.reshape(-1, *[1] * (weights.dim() - 1))


def _is_loud(node: Node, judge: Plan) -> bool:
    if not isinstance(node.op, Weighted):
        return False
    weights, peaks = _peaks(node, judge)
    return bool(((weights.abs() > LOUD * peaks) & (peaks > 0)).any())


def _clipped(judge: Plan, node: Node) -> Node:
    op = node.op
    if not isinstance(op, Weighted):
        return node
    weights, peaks = _peaks(node, judge)
    share = torch.where(weights.abs() > peaks, peaks / weights.abs(), 1.0)
    return replace(node, op=op.having(weight=(op.weight * share).to(op.weight.dtype)))


def _same(*graphs: Graph) -> bool:
    """Whether all weights are."""
    weights = ([weight_of(node) for node in weighted_nodes(graph)] for graph in graphs)
    return all(map(torch.equal, *weights))
