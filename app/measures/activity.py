"""What the neurons of a network do: spikes of every layer over many samples, a raster of one."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from spikemorph.graph import InputError
from spikemorph.graph.batches import batch_size
from spikemorph.spiking import SpikingNetwork, Trace
from spikemorph.spiking.engine import Runs

ROWS = 60  # neurons of a layer that a raster shows at most


@dataclass(frozen=True)
class LayerActivity:
    """One neuron layer, over all samples.

    `positive` and `negative` are the mean spikes of one inference at each step, whatever their
    size. `silent_share` is the per cent of neurons that sent nothing for any sample, `firing_rate`
    the mean spikes per neuron and step.
    """

    node: str
    neurons: int
    positive: tuple[float, ...]
    negative: tuple[float, ...]
    silent_share: float
    firing_rate: float


@dataclass(frozen=True)
class RasterLayer:
    """One layer's spikes for one sample.

    `shown` are the indices of the neurons that are drawn, evenly drawn from `neurons`; a spike is
    (index of the neuron, step from 1, signed size). Inside a recurrent layer, of `elements` elements, it
    is the sum of what the neuron sent at an element, and its number from 1 stands for the step.
    """

    node: str
    neurons: int
    shown: tuple[int, ...]
    spikes: tuple[tuple[int, int, int], ...]
    elements: int | None = None


@dataclass(frozen=True)
class Activity:
    """What a run of `steps` steps over `n` samples did, and a raster of sample number `sample`."""

    n: int
    steps: int
    layers: tuple[LayerActivity, ...]
    sample: int
    raster: tuple[RasterLayer, ...]

    def to_dict(self) -> dict[str, Any]:
        """The result as plain data."""
        plain = asdict(self)
        for name in ("layers", "raster"):
            plain[name] = [asdict(layer) for layer in getattr(self, name)]
        return plain


@dataclass
class _Sums:
    """What is added up of one layer: spikes of each sign by step, and who ever fired."""

    positive: Tensor
    negative: Tensor
    fired: Tensor
    elements: int | None

    @classmethod
    def empty(cls, steps: int, neurons: int, elements: int | None) -> "_Sums":
        zero = torch.zeros(steps, dtype=torch.int64)
        return cls(zero, zero.clone(), torch.zeros(neurons, dtype=torch.bool), elements)

    def add(self, trace: Trace, node: str) -> None:
        self.positive += trace.positive[node].sum(1).cpu()
        self.negative += trace.negative[node].sum(1).cpu()
        fired = (trace.trains[node] != 0).any(0).any(0).cpu()
        self.fired |= (fired if self.elements is None else fired.any(0)).flatten()


def activity(
    network: SpikingNetwork,
    engine: Runs,
    x: Tensor,
    steps: int,
    *,
    sample: int = 0,
    watch: Callable[[int], None] = lambda _: None,
) -> Activity:
    """Run all samples and record what every neuron layer sends.

    Parameters
    ----------
    network, engine
        What is run, and by what.
    x : Tensor
        (sample, *shape) real inputs on the grid's range.
    steps : int
        How long it is run.
    sample : int
        The sample whose spikes are kept for the raster.
    watch
        Told how many samples are done.

    Raises
    ------
    InputError
        If there is no sample, no step, or no sample of that number.
    """
    if not len(x) or steps < 1:
        raise InputError("activity needs at least one sample and one step; give more")
    if not 0 <= sample < len(x):
        raise InputError(f"sample {sample}: there are {len(x)}; choose 0 to {len(x) - 1}")
    sums: dict[str, _Sums] = {}
    for batch in x.split(batch_size(network.graph, steps)):
        trace = engine.run(batch, steps, record=True)
        for node, train in trace.trains.items():
            elements = train.shape[2] if _inside(network, node) else None
            cells = train[0, 0].numel() // (elements or 1)
            own = sums.setdefault(node, _Sums.empty(steps, cells, elements))
            own.add(trace, node)
        watch(len(batch))
    one = engine.run(x[sample : sample + 1], steps, record=True)
    raster = tuple(_raster(network, node, train[:, 0]) for node, train in one.trains.items())
    layers = tuple(_layer(node, own, len(x)) for node, own in sums.items())
    return Activity(len(x), steps, layers, sample, raster)


def _layer(node: str, own: _Sums, n: int) -> LayerActivity:
    neurons, steps = len(own.fired), len(own.positive)
    total = int(own.positive.sum() + own.negative.sum())
    return LayerActivity(
        node=node,
        neurons=neurons,
        positive=tuple((own.positive.double() / n).tolist()),
        negative=tuple((own.negative.double() / n).tolist()),
        silent_share=100 * int((~own.fired).sum()) / neurons,
        firing_rate=total / (n * neurons * steps * (own.elements or 1)),
    )


def _raster(network: SpikingNetwork, node: str, train: Tensor) -> RasterLayer:
    """Of the (step, *shape) spikes of one sample; element by element where elements lie before *shape."""
    elements = None
    if _inside(network, node):
        train, elements = train.sum(0), train.shape[1]
    train = train.flatten(1)
    neurons = train.shape[1]
    rows = min(neurons, ROWS)
    shown = [index * neurons // rows for index in range(rows)]
    kept = train[:, shown]
    spikes = tuple(
        (shown[row], step + 1, int(kept[step, row])) for step, row in kept.nonzero().tolist()
    )
    return RasterLayer(node, neurons, tuple(shown), spikes, elements)


def _inside(network: SpikingNetwork, node: str) -> bool:
    """Whether a neuron layer is inside a recurrent layer."""
    return node not in network.graph
