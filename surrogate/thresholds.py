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
from collections.abc import Iterable, Iterator, Sequence
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
    kept = count - round(rank / 100 * (count - 1))  # count - k + 1
    largest, seen = torch.empty(0), 0
    for part in parts:
        seen += part.numel()
        flat = part.flatten()
        if len(largest) == kept:
            flat = flat[flat > largest.min().to(flat)]
        largest = _largest(torch.cat([largest.to(flat), flat]), kept)
    if seen != count or not count:
        raise InputError(f"a percentile of {count} numbers, but {seen} came; give at least one")
    return float(largest.min())


def _largest(pool: Tensor, count: int) -> Tensor:
    """The `count` largest numbers of a flat pool, or all if it has fewer; by one selection."""
    if len(pool) <= count:
        return pool
    cut = pool.kthvalue(len(pool) - count + 1).values
    above = pool[pool > cut]
    return torch.cat([above, cut.expand(count - len(above))])


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
    sweep = Sweep(module, x.split(settings.batch), settings.steps, settings.chunk)
    for name in sweep.places:
        if name in module.spiking:
            found = _highest_percentile(sweep, name, settings.percentile)
            module.thresholds[name].fill_(max(found, LEAST_THRESHOLD))
            sweep.fire(name)
        else:
            _set_statistics(sweep, name)
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
    sweep = Sweep(module, (x,), module.dynamics.steps, chunk)
    for name in sweep.places:
        if name in module.spiking:
            sweep.fire(name)
        else:
            _set_statistics(sweep, name)


class Sweep:
    """One way through a spiking module, from input to output, for many samples.

    At every place (a batch norm or a spiking layer) what it reads can be looked at, some samples at
    a time, as often as needed; spikes of layers that later places read are held, one byte each.

    Parameters
    ----------
    module : SpikingModule
        Its thresholds and statistics may be changed, each before what follows is looked at.
    batches : sequence of Tensor
        Samples, (sample, *input shape).
    steps : int
        How long each sample is shown.
    chunk : int
        How many samples are looked at together.
    """

    def __init__(
        self, module: SpikingModule, batches: Sequence[Tensor], steps: int, chunk: int
    ) -> None:
        self.module, self.steps = module, steps
        self.batches = [batch.split(chunk) for batch in batches]
        self.places = [
            node.name
            for node in module.graph.nodes
            if isinstance(node.op, BatchNorm) or node.name in module.spiking
        ]
        self._sources = {name: _spiking_sources(module, name) for name in self.places}
        self._trains: list[list[dict[str, Tensor]]] = [[{} for _ in b] for b in self.batches]

    def currents(self, name: str, batch: int) -> Iterator[Tensor]:
        """What a place reads for one batch: (step, sample, ...) for each chunk of samples."""
        (source,) = self.module.graph[name].inputs
        for index in range(len(self.batches[batch])):
            yield self._output(source, batch, index)

    def fire(self, name: str) -> None:
        """Let a spiking layer fire with its threshold of now, and forget what nothing reads later."""
        later = self.places[self.places.index(name) + 1 :]
        needed = {source for place in later for source in self._sources[place]}
        for batch, trains in enumerate(self._trains):
            for index, held in enumerate(trains):
                if name in needed:
                    held[name] = self._output(name, batch, index).to("cpu", torch.bool)
                for old in set(held) - needed:
                    del held[old]

    def _output(self, name: str, batch: int, index: int) -> Tensor:
        home = next(self.module.parameters())
        x = self.batches[batch][index].to(home)
        held = {key: train.to(home) for key, train in self._trains[batch][index].items()}
        return self.module.output_of(x, name, self.steps, known=held)


def _spiking_sources(module: SpikingModule, name: str) -> set[str]:
    """The spiking layers whose spikes a place reads, with no other spiking layer between."""
    found, reached = set[str](), set(module.graph[name].inputs)
    for node in reversed(module.graph.nodes):
        if node.name in reached and node.name in module.spiking:
            found.add(node.name)
        elif node.name in reached:
            reached.update(node.inputs)
    return found


def _highest_percentile(sweep: Sweep, name: str, rank: float) -> float:
    (source,) = sweep.module.graph[name].inputs
    size = torch.Size(shapes(sweep.module.graph)[source]).numel() * sweep.steps
    highest = -math.inf
    for batch, chunks in enumerate(sweep.batches):
        count = sum(len(chunk) for chunk in chunks) * size
        highest = max(highest, percentile(_finite(sweep, name, batch), count, rank))
    return highest


def _finite(sweep: Sweep, name: str, batch: int) -> Iterator[Tensor]:
    for currents in sweep.currents(name, batch):
        if not bool(currents.isfinite().all()):
            raise GraphError(
                f"node {name!r}: its currents are not finite; check the network and the samples"
            )
        yield currents


def _set_statistics(sweep: Sweep, name: str) -> None:
    """One pass: means and squared distances of the chunks are joined (Chan et al., 1983)."""
    count, mean, squares = 0, torch.zeros(()), torch.zeros(())
    for part in (p for batch in range(len(sweep.batches)) for p in sweep.currents(name, batch)):
        by_channel = part.movedim(2, 0).flatten(1).double()
        more, centre = by_channel.shape[1], by_channel.mean(1)
        apart = centre - mean.to(centre)
        spread = (by_channel - centre[:, None]).square_().sum(1)
        squares = squares.to(spread) + spread + apart**2 * (count * more / (count + more))
        count, mean = count + more, mean.to(centre) + apart * (more / (count + more))
    remembered = sweep.module.statistics(name)
    remembered["mean"].copy_(mean)
    remembered["variance"].copy_(squares / max(1, count - 1))
