"""Thresholds of classical rate-coded networks, to compare with: the largest activation, or nearly."""

from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from spikemorph.graph import Graph, InputError, Problem, UnsupportedError
from spikemorph.layers.activation import Activation
from spikemorph.layers.multiply import Multiply

from .observe import Seen, Steps, heard
from .scales import Scale, collapsed, snapped

RATE_WEIGHTS = 2**15 - 1  # 16 bits: rounding is no part of this comparison


@dataclass(frozen=True)
class RateCoding:
    """How thresholds are set (Diehl et al., IJCNN 2015; Rueckauer et al., 2017).

    Parameters
    ----------
    quantile : float
        Which activation becomes the threshold: 1 for the largest, 0.999 for the robust one.
    per_channel : bool
        One threshold for each channel, or one for the layer.
    start : Fraction
        The membrane potential at first, in thresholds; 1/2 halves the mean error.
    """

    quantile: float = 0.999
    per_channel: bool = True
    start: Fraction = Fraction(1, 2)

    def __post_init__(self) -> None:
        if not 0.5 < self.quantile <= 1:
            raise InputError(f"a quantile of {self.quantile:g}: choose above 0.5 and up to 1")


def rate_steps(graph: Graph, x: Tensor, settings: RateCoding) -> dict[str, Steps]:
    """The levels of every activation: from 0 up, without end, each worth the threshold.

    Raises
    ------
    InputError
        If samples `x` are none, or leave an activation silent.
    UnsupportedError
        Naming what a rate cannot stand for: activations that can be negative, products of two.
    """
    problems = [
        Problem(node.name, type(node.op).__name__, "a firing rate cannot be negative", "use ReLU")
        for node in graph.nodes
        if isinstance(node.op, Activation) and not _may_be_a_rate(node.op)
    ]
    problems += [
        Problem(node.name, "Multiply", "a product of two rates is no rate", "convert exactly")
        for node in graph.nodes
        if isinstance(node.op, Multiply)
    ]
    if problems:
        raise UnsupportedError(problems)
    seen = heard(graph, x)
    return {
        name: Steps(0, None, _threshold(v, settings), settings.start) for name, v in seen.items()
    }


def _may_be_a_rate(op: Activation) -> bool:
    """Whether a spike for each threshold stands for it; a relay's sums may be negative."""
    return op.straight and op.bounds != (None, None)


def _threshold(seen: Seen, settings: RateCoding) -> Scale:
    layer = _quantile(seen.values.flatten()[None], seen.ends[:, 1].amax()[None], settings.quantile)
    whole = float(layer if layer > 0 else seen.ends.amax())
    if not settings.per_channel:
        return (snapped(whole),)
    rows = _quantile(seen.values, seen.ends[:, 1], settings.quantile)
    rows = torch.where(
        rows > 0, rows, torch.full_like(rows, whole)
    )  # a silent channel: the layer's
    return collapsed([snapped(float(row)) for row in rows])


def _quantile(rows: Tensor, greatest: Tensor, share: float) -> Tensor:
    """(row,) the quantile of every row; the greatest of all values where nothing is left out."""
    if share == 1:
        return greatest
    return rows.kthvalue(1 + round(share * (rows.shape[1] - 1)), dim=1).values
