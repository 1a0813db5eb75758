"""Where a quantised network loses its signal: how much noise every layer hands on, and adds itself."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from spikemorph.graph import Node
from spikemorph.graph.interpret import of_lengths, on_reals, walk
from spikemorph.graph.traits import Weighted
from spikemorph.layers.activation import Activation
from spikemorph.layers.integer_pass import IntegerPass
from spikemorph.layers.ladder import along_channels
from spikemorph.layers.moving import widened

from .integers import Quantised
from .scales import as_reals

_CLEAN = 1e-30  # of noise over signal: as good as none


@dataclass(frozen=True)
class LayerLoss:
    """What rounding does at one weighted layer or activation, on some samples.

    Noise over signal is a mean over channels, each counted as lost at 1, so the scales of channels
    decide nothing; channels that are constant are left out.

    Parameters
    ----------
    node : str
        Its name.
    kind : str
        Its op: Convolution, Linear, ReLU ...
    snr_db : float
        Signal over noise, with all noise from the layers before.
    own_db : float
        The same where its input is the float network's: what this layer adds itself.
    channels : int
        How many channels it has.
    silent : int
        Of an activation's: how many are zero on all calibration samples.
    coarse : int
        Of an activation's: how many stay below their first level on all samples, but are not zero.
    """

    node: str
    kind: str
    snr_db: float
    own_db: float
    channels: int
    silent: int = 0
    coarse: int = 0


@torch.no_grad()
def layer_losses(
    found: Quantised, x: Tensor, lengths: Tensor | None = None
) -> tuple[LayerLoss, ...]:
    """The loss at every weighted layer and activation, in running order.

    `x` is (sample, *shape) on the grid; some tens of samples are enough.
    """
    return tuple(_losses(found, x, lengths))


def _losses(found: Quantised, x: Tensor, lengths: Tensor | None) -> Iterator[LayerLoss]:
    wanted = {n.name for n in found.body.nodes if isinstance(n.op, Activation | Weighted)}
    given: dict[str, Tensor] = {}

    def on_floats(node: Node, *inputs: Tensor) -> Tensor:
        if node.name in wanted:
            given[node.name] = inputs[0]
        return on_reals(node, *inputs)

    integers = ((n, v) for n, v in IntegerPass(found.graph).edges(x, lengths) if n.name in wanted)
    for node, real in walk(found.body, x, of_lengths(on_floats, lengths)):
        if node.name in wanted:
            whole, levels = next(integers)
            yield _loss(found, node, whole, (given.pop(node.name), real, levels))


def _loss(found: Quantised, node: Node, whole: Node, values: tuple[Tensor, ...]) -> LayerLoss:
    given, real, levels = values
    unit = as_reals(found.plan.scale(node.name))
    handed = levels * along_channels(unit, levels)
    own = _alone(found, node, whole, given, real)
    kind, channels = type(node.op).__name__, real.shape[1]
    loss = LayerLoss(node.name, kind, _decibels(real, handed), _decibels(real, own), channels)
    if not isinstance(node.op, Activation):
        return loss
    heard = torch.tensor(widened(found.plan.steps[node.name].heard, channels))
    peak = real.abs().transpose(0, 1).flatten(1).amax(1)
    coarse = (peak > 0) & (peak < unit / 2)
    return replace(loss, silent=int((~heard).sum()), coarse=int(coarse.sum()))


def _alone(found: Quantised, node: Node, whole: Node, given: Tensor, real: Tensor) -> Tensor:
    """What the layer's own rounding makes of the float network's values."""
    unit = as_reals(found.plan.scale(node.name))
    if isinstance(node.op, Activation):
        steps, wide = found.plan.steps[node.name], along_channels(unit, real)
        return torch.floor(real / wide + 0.5).clamp(steps.smin, steps.smax) * wide
    op = whole.op
    assert isinstance(op, Weighted) and op.bias is not None
    points = given.double() / along_channels(as_reals(found.plan.scale(node.inputs[0])), given)
    sums = op.products(points) + op.spread(op.bias)
    return sums * along_channels(unit, sums)


def _decibels(real: Tensor, made: Tensor) -> float:
    """Signal over noise in dB, at most 300."""
    wanted, found = (t.double().transpose(0, 1).flatten(1) for t in (real, made))
    signal = wanted.var(1, correction=0)
    noise = (wanted - found).square().mean(1)
    share = (noise / signal)[signal > 0].clamp(max=1)
    return -10 * math.log10(max(float(share.mean()), _CLEAN)) if len(share) else 300.0
