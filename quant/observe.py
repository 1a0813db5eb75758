"""Watch a float graph's activations on calibration samples, and choose a ladder's ends and unit."""

import math
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from spikemorph.graph import Graph, InputError
from spikemorph.graph.interpret import walk
from spikemorph.layers.activation import Activation

from .settings import Quantisation
from .units import snapped

KEPT = 400_000  # values of one activation that are kept for calibration
_BATCH = 100


@dataclass(frozen=True)
class Steps:
    """The ends and the unit of one ladder: levels `smin` to `smax`, each worth `unit`."""

    smin: int
    smax: int
    unit: Fraction


def observe(graph: Graph, x: Tensor) -> dict[str, Tensor]:
    """Values of every activation on samples `x` (sample, *shape), thinned evenly to at most `KEPT`.

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
                    flat = value.flatten()
                    stride = max(1, flat.numel() // share)
                    ends = torch.stack([flat.min(), flat.max()])
                    stride += stride % 2 == 0  # an odd stride does not stay in step with the maps
                    kept.setdefault(node.name, []).extend([flat[::stride], ends])
    return {name: torch.cat(parts) for name, parts in kept.items()}


def choose_steps(graph: Graph, x: Tensor, settings: Quantisation) -> dict[str, Steps]:
    """Ends and unit of every activation's ladder.

    Raises
    ------
    InputError
        If there are no samples, or they leave an activation silent; it is named.
    """
    seen = observe(graph, x)
    found = {}
    for node in graph.nodes:
        if isinstance(node.op, Activation):
            values = seen[node.name]
            if not bool((values != 0).any()):
                raise InputError(
                    f"node {node.name!r} is silent on all {len(x)} calibration samples; calibrate on "
                    "more samples like those the network will see"
                )
            found[node.name] = _steps(node.op, values, settings)
    return found


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
    return Steps(smin, max(smax, smin + 1), unit)
