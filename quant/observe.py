"""Watch a float graph's activations on calibration samples, and choose each ladder's levels."""

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial

import torch
from torch import Tensor

from spikemorph.graph import Graph, InputError, Node
from spikemorph.graph.batches import pieces
from spikemorph.graph.brief import brief_repr
from spikemorph.graph.interpret import on_reals, shapes, walk
from spikemorph.graph.nested import nested_bodies
from spikemorph.graph.traits import Recurs
from spikemorph.layers.activation import Activation

from .calibrators import Max
from .lasting import lasting, memories
from .meeting import meeting
from .scales import Scale, collapsed, naming, snapped
from .settings import Quantisation

KEPT = 400_000  # values of one activation that are kept for calibration
SELDOM = 0.01  # of a channel's values: what is not zero in more of them speaks often
_BATCH = 100


@dataclass(frozen=True)
class Steps:
    """The levels of one ladder.

    Levels run from `smin` to `smax` (None: no end), each worth `unit` (per channel, or one for all);
    level k is reached at the real value ``(k - start) * unit``. `heard` says, per channel or for all,
    whether calibration samples ever left zero; `often`, whether they did so in more than `SELDOM`.
    """

    smin: int
    smax: int | None
    unit: Scale
    start: Fraction = Fraction(1, 2)
    heard: tuple[bool, ...] = (True,)
    often: tuple[bool, ...] = (True,)


@dataclass(frozen=True)
class Seen:
    """What one activation did on all samples.

    `values` is (channel, n), thinned evenly, so that shares and quantiles of them are those of all;
    `ends` is (channel, 2), the least and the greatest of all values, thinned out or not; `given` is
    the same of what the activation was given.
    """

    values: Tensor
    ends: Tensor
    given: Tensor

    __repr__ = brief_repr

    def rows(self) -> Tensor:
        """(channel, n + 2) the values of each channel with its two ends among them."""
        return torch.cat([self.values, self.ends], 1)

    @property
    def often(self) -> Tensor:
        """(channel,) whether the channel is not zero in more than `SELDOM` of its values."""
        return (self.values != 0).double().mean(1) > SELDOM

    @property
    def silent(self) -> Tensor:
        """(channel,) whether the channel is zero on all samples."""
        return (self.ends == 0).all(1)


def observe(graph: Graph, x: Tensor, lengths: Tensor | None = None) -> dict[str, Seen]:
    """What every activation does on samples `x`, thinned to about `KEPT` values each.

    Sequences of `lengths` (sample,) elements stay as they are past their ends.

    Raises
    ------
    InputError
        If there are no samples.
    """
    if not len(x):
        raise InputError("calibration data is empty: give at least one sample")
    kept: dict[str, list[Seen]] = {}
    with torch.no_grad():
        for batch, ends in pieces(x, lengths, _BATCH):
            watch = partial(_watch, kept, KEPT // -(-len(x) // _BATCH), "", ends)
            for node, value in walk(graph, batch, watch):
                if not node.inputs:
                    _require_finite(node.name, value)
    return {name: _joined(parts) for name, parts in kept.items()}


def _watch(
    kept: dict[str, list[Seen]],
    share: int,
    inside: str,
    lengths: Tensor | None,
    node: Node,
    *inputs: Tensor,
) -> Tensor:
    """A node's output; an activation's is kept, thinned to about `share` values of a batch.

    Those of a body are kept by qualified name, at every element.
    """
    op, name = node.op, f"{inside}{node.name}"
    if isinstance(op, Recurs):
        elements = inputs[0].shape[op.axis]
        watch = partial(_watch, kept, share // elements, f"{name}/", None)
        value = op.computed(watch, *inputs, lengths=lengths)
    else:
        value = on_reals(node, *inputs)
    _require_finite(name, value)
    if isinstance(op, Activation):
        rows = value.transpose(0, 1).flatten(1)
        stride = max(1, rows.numel() // max(1, share))
        stride += stride % 2 == 0  # an odd stride does not stay in step with the maps
        part = Seen(rows[:, ::stride].clone(), _ends(value), _ends(inputs[0]))
        kept.setdefault(name, []).append(part)
    return value


def _require_finite(name: str, value: Tensor) -> None:
    if not bool(torch.isfinite(value).all()):
        raise InputError(
            f"node {name!r} gives numbers that are not finite on calibration samples; "
            "repair or rescale its weights"
        )


def _ends(value: Tensor) -> Tensor:
    rows = value.transpose(0, 1).flatten(1)
    return torch.stack([rows.amin(1), rows.amax(1)], 1)


def _joined(parts: list[Seen]) -> Seen:
    ends, given = (
        torch.stack([low.amin(1), high.amax(1)], 1)
        for low, high in (
            torch.stack([getattr(part, name) for part in parts], 1).unbind(2)
            for name in ("ends", "given")
        )
    )
    return Seen(torch.cat([part.values for part in parts], 1), ends, given)


def choose_steps(
    graph: Graph, x: Tensor, settings: Quantisation, lengths: Tensor | None = None
) -> dict[str, Steps]:
    """The levels of every activation's ladder: a unit for each channel, by what it did on `x`.

    So the scale of a channel, which the layers before and behind can trade, decides nothing. One unit
    serves all channels of a function whose ends are fixed, and of channels that meet at one place.

    Raises
    ------
    InputError
        If there are no samples, or they leave an activation silent; it is named.
    """
    seen = heard(graph, x, lengths)
    found = {}
    for inside, body in (("", graph), *nested_bodies(graph)):
        tied = meeting(body, shapes(body)) | (lasting(body) if inside else set())
        remembering = memories(body)
        for node in body.nodes:
            if isinstance(node.op, Activation):
                name = f"{inside}{node.name}"
                how = _of_a_memory(settings) if node.name in remembering else settings
                with naming(name):
                    found[name] = _steps(node.op, seen[name], how, whole=node.name in tied)
    return found


def _of_a_memory(settings: Quantisation) -> Quantisation:
    """A state that changes by sums is kept finely, and nothing that was seen of it is clipped."""
    return replace(settings, levels=settings.state_levels, calibrator=Max())


def heard(graph: Graph, x: Tensor, lengths: Tensor | None = None) -> dict[str, Seen]:
    """As `observe`, refusing activations that are zero on all samples."""
    seen = observe(graph, x, lengths)
    for name, found in seen.items():
        if bool(found.silent.all()):
            raise InputError(
                f"node {name!r} is silent on all {len(x)} calibration samples; calibrate on more "
                "samples, like those the network will see"
            )
    return seen


def _steps(op: Activation, seen: Seen, settings: Quantisation, *, whole: bool) -> Steps:
    low, high = op.bounds
    gaps, rows, silent = settings.levels - 1, seen.rows(), seen.silent
    wishes = _spans(seen.given) / gaps  # of silent channels: coarse enough for what might come
    if whole or high is not None or low not in (None, 0):
        rows, silent, wishes = rows.reshape(1, -1), torch.tensor([False]), wishes[:1]
    below = 0 if low is not None and low >= 0 else round(gaps * _negative_share(rows[~silent]))
    wishes[~silent] = settings.calibrator.units(rows[~silent], -below, gaps - below)
    up = isinstance(settings.calibrator, Max)  # which clips nothing
    units = collapsed([snapped(wish, up=up) for wish in wishes.tolist()])
    smin, smax = within(op, -below, gaps - below, units)
    return Steps(
        smin,
        smax,
        units,
        heard=collapsed((~silent).tolist()),
        often=collapsed(seen.often.tolist()),
    )


def within(op: Activation, smin: int, smax: int, units: Scale) -> tuple[int, int]:
    """The levels that the function reaches; zero, where a tracer starts, and one more at least.

    Where it has an end apart from zero, there is one unit for all channels.
    """
    low, high = op.bounds
    if high is not None:
        smax = min(smax, math.floor(high / units[0] + Fraction(1, 2)))
    if low is not None:
        smin = max(smin, math.floor(low / units[0] + Fraction(1, 2)))
    smin = min(smin, 0)
    return smin, max(smax, smin + 1, 0)


def _negative_share(rows: Tensor) -> float:
    """How much of their range lies below zero, as a mean over rows."""
    least, most = rows.amin(1).double().clamp(max=0), rows.amax(1).double().clamp(min=0)
    return float((-least / (most - least)).mean())


def _spans(ends: Tensor) -> Tensor:
    """(row,) how far values reach from least to greatest, or from zero where they are one; not 0."""
    low, high = ends.double().unbind(1)
    span = torch.where(high > low, high - low, high.abs())
    return torch.where(span > 0, span, 1.0)
