"""The differentiable twin of an integer graph: its very outputs, and gradients by a chosen rule."""

from collections.abc import Sequence
from dataclasses import fields, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from spikemorph.graph import Graph, GraphError, Node, Problem, UnsupportedError
from spikemorph.graph.grid import Grid
from spikemorph.graph.interpret import walk
from spikemorph.graph.nested import nested_compute, nested_nodes, read_by
from spikemorph.graph.records import Record
from spikemorph.graph.stages import INTEGER, require
from spikemorph.graph.traits import Weighted
from spikemorph.layers.carriers import Products, float_carrier
from spikemorph.layers.ladder import Ladder, along_channels, climb
from spikemorph.layers.ranges import Range
from spikemorph.layers.readout import Readout
from spikemorph.layers.scan import nested_ranges

from .exact_floats import position, position_kind, through
from .twin_rules import Rule

Share = tuple[Rule, int]  # a rule, and how many samples in a row it serves


class IntegerTwin:
    """An integer graph run on real inputs in floats that hold its whole numbers, differentiably.

    Recurrent layers run element by element, and gradients reach the inputs of every element.
    With a rule that is `exact`, outputs equal those of the integer pass bit for bit.

    Parameters
    ----------
    graph : Graph
        An integer graph (`quantise_graph`): one input with a grid, a `Readout` last.

    Raises
    ------
    GraphError
        If it is no integer graph, or its sums may pass 53 bits.
    UnsupportedError
        Naming ladders without an upper end: rate-coded networks are not exact, so have no twin.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.grid, self.readout = _ends(graph)
        require(graph, INTEGER)
        endless = [
            Problem(name, "Ladder", "it has no top level", "convert the network exactly")
            for name, node in nested_nodes(graph)
            if isinstance(node.op, Ladder) and node.op.smax is None
        ]
        if endless:
            raise UnsupportedError(endless)
        self._ranges = nested_ranges(graph)
        self._bounds = {name: max(r.load, r.peak) for name, r in self._ranges.items()}
        for name, bound in self._bounds.items():
            float_carrier(bound, name)
        self._quick = {
            name: kind
            for name, node in nested_nodes(graph)
            if (kind := _quick_kind(node, [self._ranges[i] for i in read_by(name, node)]))
        }
        self._graphs: dict[torch.device, Graph] = {}
        self._products = Products()

    def __call__(self, x: Tensor, rule: Rule) -> Tensor:
        """The real outputs (sample, *shape), float64, of inputs (sample, *shape) on the grid's range.

        The input's own rounding lets gradients straight through; a rule that is not `exact` leaves it
        out.

        Raises
        ------
        InputError
            If `x` lies outside the grid.
        """
        return self._run(x, [(rule, len(x))])

    def mixed(self, x: Tensor, rules: Sequence[Rule], which: Tensor) -> Tensor:
        """As a call, for sample k by the rule ``rules[which[k]]``; `which` is (sample,) int64.

        Weighted layers run once, over all samples.
        """
        order = torch.argsort(which, stable=True)
        counts = torch.bincount(which, minlength=len(rules)).tolist()
        shares = [(rule, n) for rule, n in zip(rules, counts, strict=True) if n]
        return self._run(x[order], shares)[torch.argsort(order)]

    def _run(self, x: Tensor, shares: list[Share]) -> Tensor:
        graph = self._on(x.device)
        with torch.autocast(x.device.type, enabled=False):
            entry = _together([self._entry(rule, part) for rule, part in _shared(x, shares)])
            (wanted,) = graph.outputs
            compute = nested_compute(partial(self._node, shares))
            nodes = walk(graph, entry, compute)
            (sums,) = [value for node, value in nodes if node.name == wanted]
            return self.readout.real(sums)

    def _entry(self, rule: Rule, x: Tensor) -> Tensor:
        points = self.grid.to_integers(x)
        kind = float_carrier(self._bounds[self.graph.inputs[0]], self.graph.inputs[0])
        real = x.double() * float(1 / self.grid.step)
        return through(points.to(kind), real) if rule.exact else real.to(kind)

    def _node(self, shares: list[Share], name: str, node: Node, *inputs: Tensor) -> Tensor:
        op, kind = node.op, float_carrier(self._bounds[name], name)
        if isinstance(op, Ladder):
            parts = _shared(inputs[0], shares)
            return _together([self._ladder(name, op, rule, part) for rule, part in parts])
        if isinstance(op, Weighted):
            (source,) = read_by(name, node)
            bounds = (self._ranges[source].peak, self._ranges[name].load)
            sums = self._products(op, inputs[0], bounds).to(kind)
            return sums if op.bias is None else sums + op.spread(op.bias).to(kind)
        terms = [term.to(kind) for term in inputs]
        if isinstance(op, Readout):
            return terms[0] * along_channels(op.factors, terms[0]).to(kind)
        return op(*terms)

    def _ladder(self, name: str, op: Ladder, rule: Rule, sums: Tensor) -> Tensor:
        kind, place = float_carrier(self._bounds[name], name), None
        with torch.no_grad():
            if op.line is not None:
                place = position(op.line, sums, self._quick.get(name, torch.float64))
            if place is not None and name in self._quick:
                level = torch.floor(place).clamp_(op.smin, op.smax)
            else:
                level = climb(op, torch.floor(sums).to(torch.int64))
        return rule(op, sums, place, level.to(kind)).to(kind)

    def _on(self, device: torch.device) -> Graph:
        """The graph with its tensors on a device."""
        if device not in self._graphs:
            self._graphs[device] = self.graph.map(
                lambda node: replace(node, op=_moved(node.op, device))
            )
        return self._graphs[device]


def _ends(graph: Graph) -> tuple[Grid, Readout]:
    first, last = graph.entry, graph[graph.outputs[0]].op
    if first.grid is None or not isinstance(last, Readout):
        raise GraphError(
            "a twin is of an integer graph: quantise the graph first (spikemorph.quant)"
        )
    return first.grid, last


def _quick_kind(node: Node, sources: list[Range]) -> torch.dtype | None:
    """The float in which a ladder's levels are the exact floor of its line; None where they are not."""
    op = node.op
    if not isinstance(op, Ladder) or op.line is None or op.smax is None:
        return None
    if op.rungs is not None:
        own = op.line.rungs(op.smin, op.smax).expand_as(op.rungs)
        if not torch.equal(own, op.rungs):
            return None
    return position_kind(op.line, sources[0].peak)


def _moved(value: Any, device: torch.device) -> Any:
    """An op, or what it holds, with its tensors on a device."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, tuple):
        return tuple(_moved(item, device) for item in value)
    if isinstance(value, Record):
        held = ((f.name, getattr(value, f.name)) for f in fields(value))
        return replace(value, **{k: _moved(v, device) for k, v in held})
    return value


def _shared(values: Tensor, shares: list[Share]) -> list[tuple[Rule, Tensor]]:
    """The samples of each share, with its rule."""
    parts = values.split([count for _, count in shares])
    return [(rule, part) for (rule, _), part in zip(shares, parts, strict=True)]


def _together(parts: list[Tensor]) -> Tensor:
    """The samples of all shares again; a single share is not copied."""
    return parts[0] if len(parts) == 1 else torch.cat(parts)
