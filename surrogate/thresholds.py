"""Thresholds and batch statistics of a converted network, calibrated from input to output.

Schmolli et al., CPAL 2025 (arXiv 2505.15833), section 3.2 and algorithm 1: the threshold of a layer
is a high percentile of its currents, all layers before it spiking already; when all are known, all
are scaled down. What is done otherwise, and why:

- Batch norms are given the statistics of the spiking network's own activity over all calibration
  samples before they are used, and again with the final thresholds, so that the network works before
  it is trained. The paper normalises each calibration batch by itself, and lets training find them.
- Every spiking layer is calibrated by its own currents; in the published code for residual networks a
  block's second threshold can be no lower than its first.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from spikemorph.graph import GraphError, InputError
from spikemorph.graph.interpret import shapes
from spikemorph.layers.normalisation import BatchNorm

from .module import LEAST_THRESHOLD, SpikingModule


@dataclass(frozen=True)
class Calibration:
    """How thresholds are found; the paper's settings unless said otherwise.

    Parameters
    ----------
    percentile : float
        Of a layer's currents in one batch, 0 to 100; the largest over all batches is taken.
    steps : int
        How long each sample is shown.
    batch : int
        How many samples one percentile is of.
    scale : float
        What all thresholds are multiplied by, once, when all are known; lambda in the paper.
    chunk : int
        How many samples are held in memory at once; it changes nothing else.

    Raises
    ------
    InputError
        If a setting is out of its range.
    """

    percentile: float = 99.7
    steps: int = 100
    batch: int = 64
    scale: float = 0.3
    chunk: int = 16

    def __post_init__(self) -> None:
        if not 0 <= self.percentile <= 100:
            raise InputError(f"percentile {self.percentile}: give a number from 0 to 100")
        if not 0 < self.scale < math.inf:
            raise InputError(f"scale {self.scale}: give a finite number above 0")
        for name in ("steps", "batch", "chunk"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} {getattr(self, name)}: give 1 or more")


def percentile(parts: Iterable[Tensor], count: int, rank: float) -> float:
    """The k-th smallest of `count` numbers, ``k = 1 + round(rank / 100 (count - 1))``; exact.

    Only what can still be the answer is held: the ``count - k + 1`` largest numbers so far.

    Parameters
    ----------
    parts : iterable of Tensor
        The numbers, in tensors of any shape.
    count : int
        How many there are in all.
    rank : float
        0 (the smallest) to 100 (the largest).

    Raises
    ------
    InputError
        If there are none, or not as many as was said.
    """
    wanted = 1 + round(rank / 100 * (count - 1))
    largest, seen = torch.empty(0), 0
    for part in parts:
        seen += part.numel()
        pool = torch.cat([largest.to(part), part.flatten()])
        largest = pool.topk(min(count - wanted + 1, len(pool)), sorted=False).values
    if seen != count or not count:
        raise InputError(f"a percentile of {count} numbers, but {seen} came; give at least one")
    return float(largest.min())


@torch.no_grad()
def calibrate(
    module: SpikingModule,
    x: Tensor,
    settings: Calibration = Calibration(),  # noqa: B008  a frozen value
) -> dict[str, float]:
    """Set every threshold, then the batch statistics of the network with these thresholds.

    A threshold that would be below the least one (a layer that hardly gets positive currents) is
    set to that.

    Parameters
    ----------
    module : SpikingModule
        Changed in place: thresholds and running statistics. Its mode is left alone.
    x : Tensor
        (sample, *input shape), training samples; the paper takes 640.
    settings : Calibration
        How.

    Returns
    -------
    dict of str to float
        V_th by spiking node, scaled.

    Raises
    ------
    InputError
        If there are no samples.
    GraphError
        If a layer's currents are not finite.
    """
    if not len(x):
        raise InputError("no samples to calibrate thresholds with; give some of the training set")
    for node in module.graph.nodes:
        if isinstance(node.op, BatchNorm):
            _set_statistics(module, node.name, x, settings.steps, settings.chunk)
        elif node.name in module.spiking:
            found = _highest_percentile(module, node.name, x, settings)
            module.thresholds[node.name].fill_(max(found, LEAST_THRESHOLD))
    for threshold in module.thresholds.values():
        threshold.mul_(settings.scale).clamp_(min=LEAST_THRESHOLD)
    estimate_statistics(module, x, chunk=settings.chunk)
    return {name: float(threshold) for name, threshold in module.thresholds.items()}


@torch.no_grad()
def estimate_statistics(module: SpikingModule, x: Tensor, *, chunk: int = 64) -> None:
    """Give all batch norms the mean and variance of their inputs, in running order.

    Over all samples, steps and positions; what is before a batch norm has its new statistics already.
    `chunk` samples are held in memory at once.
    """
    for node in module.graph.nodes:
        if isinstance(node.op, BatchNorm):
            _set_statistics(module, node.name, x, module.dynamics.steps, chunk)


def _highest_percentile(
    module: SpikingModule, name: str, x: Tensor, settings: Calibration
) -> float:
    (source,) = module.graph[name].inputs
    size = torch.Size(shapes(module.graph)[source]).numel() * settings.steps
    highest = -math.inf
    for batch in x.split(settings.batch):
        parts = _observed(module, name, batch, settings.steps, settings.chunk)
        found = percentile(parts, len(batch) * size, settings.percentile)
        if not math.isfinite(found):
            raise GraphError(
                f"node {name!r}: its currents are not finite; check the network and the samples"
            )
        highest = max(highest, found)
    return highest


def _set_statistics(module: SpikingModule, name: str, x: Tensor, steps: int, chunk: int) -> None:
    """One pass: means and squared distances of the chunks are joined (Chan et al., 1983)."""
    count, mean, squares = 0, torch.zeros(()), torch.zeros(())
    for part in _observed(module, name, x, steps, chunk):
        by_channel = part.movedim(2, 0).flatten(1).double()
        more, centre = by_channel.shape[1], by_channel.mean(1)
        apart = centre - mean.to(centre)
        spread = (by_channel - centre[:, None]).square_().sum(1)
        squares = squares.to(spread) + spread + apart**2 * (count * more / (count + more))
        count, mean = count + more, mean.to(centre) + apart * (more / (count + more))
    remembered = module.statistics(name)
    remembered["mean"].copy_(mean)
    remembered["variance"].copy_(squares / max(1, count - 1))


def _observed(
    module: SpikingModule, name: str, x: Tensor, steps: int, chunk: int
) -> Iterator[Tensor]:
    """What a node reads, (step, sample, ...), some samples at a time, on the module's device."""
    (source,) = module.graph[name].inputs
    home = next(module.parameters())
    for part in x.split(chunk):
        yield module.output_of(part.to(home), source, steps)
