"""Watch a float graph's activations on calibration samples, and choose each ladder's levels."""

import math
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from spikemorph.graph import Graph, InputError
from spikemorph.graph.interpret import walk
from spikemorph.layers.activation import Activation

from .settings import Quantisation
from .units import Scale, snapped

KEPT = 400_000  # values of one activation that are kept for calibration
_BATCH = 100


@dataclass(frozen=True)
class Steps:
    """The levels of one ladder.

    Levels run from `smin` to `smax` (None: no end), each worth `unit` (per channel, or one for all);
    level k is reached at the real value ``(k - start) * unit``.
    """

    smin: int
    smax: int | None
    unit: Scale
    start: Fraction = Fraction(1, 2)


def observe(graph: Graph, x: Tensor) -> dict[str, Tensor]:
    """Values of every activation on samples `x`, (channel, n), thinned evenly to about `KEPT`.

    Each channel's least and greatest values are always among them.

    Raises
    ------
    InputError
        If there are no samples.
    """
    if not len(x):
        raise InputError("calibration data is empty: give at least one sample")
    kept: dict[str, list[Tensor]] = {}
    share = max(1, KEPT // -(-len(x) // _BATCH))
    with torch.no_grad():
        for batch in x.split(_BATCH):
            for node, value in walk(graph, batch, lambda n, *inputs: n.op(*inputs)):
                if isinstance(node.op, Activation):
                    rows = value.transpose(0, 1).flatten(1)
                    stride = max(1, rows.numel() // share)
                    stride += stride % 2 == 0  # an odd stride does not stay in step with the maps
                    ends = torch.stack([rows.amin(1), rows.amax(1)], 1)
                    kept.setdefault(node.name, []).extend([rows[:, ::stride], ends])
    return {name: torch.cat(parts, 1) for name, parts in kept.items()}


def choose_steps(graph: Graph, x: Tensor, settings: Quantisation) -> dict[str, Steps]:
    """The levels of every activation's ladder.

    Raises
    ------
    InputError
        If there are no samples, or they leave an activation silent; it is named.
    """
    seen = heard(graph, x)
    return {
        node.name: _steps(node.op, seen[node.name].flatten(), settings)
        for node in graph.nodes
        if isinstance(node.op, Activation)
    }


def heard(graph: Graph, x: Tensor) -> dict[str, Tensor]:
    """As `observe`, refusing activations that are zero on all samples."""
    seen = observe(graph, x)
    for name, values in seen.items():
        if not bool((values != 0).any()):
            raise InputError(
                f"node {name!r} is silent on all {len(x)} calibration samples; calibrate on more "
                "samples, like those the network will see"
            )
    return seen


def _steps(op: Activation, values: Tensor, settings: Quantisation) -> Steps:
    low, high = op.bounds
    least, most = min(0.0, float(values.min())), max(0.0, float(values.max()))
    gaps = settings.levels - 1
    below = 0 if low is not None and low >= 0 else round(gaps * -least / (most - least))
    unit = snapped(settings.calibrator.unit(values, -below, gaps - below))
    smin, smax = -below, gaps - below
    if high is not None:
        smax = min(smax, math.floor(high / unit + Fraction(1, 2)))
    if low is not None:
        smin = max(smin, math.floor(low / unit + Fraction(1, 2)))
    smin, smax = min(smin, 0), max(smax, 0)  # a tracer starts at zero, whatever the function's ends
    return Steps(smin, max(smax, smin + 1), (unit,))
