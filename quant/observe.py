"""Watch a float graph's activations on calibration samples, and choose each ladder's levels."""

import math
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from spikemorph.graph import Graph, InputError
from spikemorph.graph.interpret import on_reals, walk
from spikemorph.layers.activation import Activation

from .calibrators import Max
from .settings import Quantisation
from .units import Scale, naming, snapped

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


@dataclass(frozen=True)
class Seen:
    """What one activation did on all samples.

    `values` is (channel, n), thinned evenly, so that shares and quantiles of them are those of all;
    `ends` is (channel, 2), the least and the greatest of all values, thinned out or not.
    """

    values: Tensor
    ends: Tensor

    def layer(self) -> Tensor:
        """(n,) the values of all channels with the layer's two ends among them."""
        return torch.cat([self.values.flatten(), self.ends.amin()[None], self.ends.amax()[None]])


def observe(graph: Graph, x: Tensor) -> dict[str, Seen]:
    """What every activation does on samples `x`, thinned to about `KEPT` values each.

    Raises
    ------
    InputError
        If there are no samples.
    """
    if not len(x):
        raise InputError("calibration data is empty: give at least one sample")
    kept: dict[str, list[tuple[Tensor, Tensor]]] = {}
    share = max(1, KEPT // -(-len(x) // _BATCH))
    with torch.no_grad():
        for batch in x.split(_BATCH):
            for node, value in walk(graph, batch, on_reals):
                if not bool(torch.isfinite(value).all()):
                    raise InputError(
                        f"node {node.name!r} gives numbers that are not finite on calibration samples; "
                        "repair or rescale its weights"
                    )
                if isinstance(node.op, Activation):
                    rows = value.transpose(0, 1).flatten(1)
                    stride = max(1, rows.numel() // share)
                    stride += stride % 2 == 0  # an odd stride does not stay in step with the maps
                    ends = torch.stack([rows.amin(1), rows.amax(1)], 1)
                    kept.setdefault(node.name, []).append((rows[:, ::stride].clone(), ends))
    return {name: _joined(parts) for name, parts in kept.items()}


def _joined(parts: list[tuple[Tensor, Tensor]]) -> Seen:
    ends = torch.stack([ends for _, ends in parts])
    both = torch.stack([ends[..., 0].amin(0), ends[..., 1].amax(0)], 1)
    return Seen(torch.cat([values for values, _ in parts], 1), both)


def choose_steps(graph: Graph, x: Tensor, settings: Quantisation) -> dict[str, Steps]:
    """The levels of every activation's ladder.

    Raises
    ------
    InputError
        If there are no samples, or they leave an activation silent; it is named.
    """
    seen = heard(graph, x)
    found = {}
    for node in graph.nodes:
        if isinstance(node.op, Activation):
            with naming(node.name):
                found[node.name] = _steps(node.op, seen[node.name].layer(), settings)
    return found


def heard(graph: Graph, x: Tensor) -> dict[str, Seen]:
    """As `observe`, refusing activations that are zero on all samples."""
    seen = observe(graph, x)
    for name, found in seen.items():
        if not bool((found.ends != 0).any()):
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
    wish = settings.calibrator.unit(values, -below, gaps - below)
    unit = snapped(wish, up=isinstance(settings.calibrator, Max))  # which clips nothing
    smin, smax = -below, gaps - below
    if high is not None:
        smax = min(smax, math.floor(high / unit + Fraction(1, 2)))
    if low is not None:
        smin = max(smin, math.floor(low / unit + Fraction(1, 2)))
    smin, smax = min(smin, 0), max(smax, 0)  # a tracer starts at zero, whatever the function's ends
    return Steps(smin, max(smax, smin + 1), (unit,))
