"""The network that is deployed: weights only, thresholds of 1, and what it does, counted exactly.

Batch norms and trained thresholds are inside its weights (`folding`), so a neuron adds what arrives
and compares with one. With soft reset and no leak it is the integrate-and-fire neuron of `spiking`
(`IF`, without a cap) on numbers that are not integers, read per step as rate-coded networks are.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spikemorph.graph import Graph, GraphError, InputError, Node, Op
from spikemorph.graph.brief import brief_repr
from spikemorph.graph.fields import filled
from spikemorph.graph.interpret import shapes, walk
from spikemorph.graph.saving import (
    TensorStore,
    graph_from_plain,
    graph_to_plain,
    read_file,
    write_file,
)
from spikemorph.graph.traits import Moves, Pools, Weighted
from spikemorph.layers.activation import Activation
from spikemorph.layers.masks import broken_masks

from .neuron import Dynamics, Leak, Steps

KIND = "deployed"

Seen = Callable[[Node, tuple[Tensor, ...], Tensor], None]


@dataclass(frozen=True, eq=False)
class Fire(Op):
    """A layer of float spiking neurons, all with threshold 1; see `neuron` for what they compute.

    Called without time it gives the spikes of the first step from rest.
    """

    leak: Leak = 1.0
    hard_reset: bool = True

    def __post_init__(self) -> None:
        Dynamics(1, self.leak, self.hard_reset)  # refuses what is out of range

    def __call__(self, x: Tensor) -> Tensor:
        return (x >= 1).to(x)

    def over_time(self, currents: Tensor) -> Tensor:
        """The spikes, 0 or 1, that currents (step, sample, ...) set off from rest."""
        dynamics = Dynamics(max(1, len(currents)), self.leak, self.hard_reset)
        return (dynamics.membranes(currents, torch.ones_like(currents[0, :1])) >= 1).to(currents)


@dataclass(frozen=True)
class DeployedNetwork:
    """A float spiking network without batch norms or thresholds.

    Parameters
    ----------
    graph : Graph
        A float graph whose only activations are `Fire`.
    steps : int
        T: the input is shown as it is in each of them, and the logits are their mean.

    Raises
    ------
    GraphError
        If nothing fires, another activation is left, or a weight outside its mask is not zero.
    InputError
        If there is no step.
    """

    graph: Graph
    steps: int

    __repr__ = brief_repr

    def __post_init__(self) -> None:
        Dynamics(self.steps)  # refuses what is out of range
        if odd := [n.name for n in self.graph.nodes if isinstance(n.op, Activation)]:
            raise GraphError(f"nodes {odd}: activations that do not spike; fold a spiking module")
        if not any(isinstance(node.op, Fire) for node in self.graph.nodes):
            raise GraphError("no node fires: fold a spiking module")
        if broken := broken_masks(self.graph):
            raise GraphError("; ".join(broken))


@dataclass(frozen=True)
class Activity:
    """What samples set off in a deployed network over all steps, in whole numbers.

    All maps go by node name. An *accumulate* is a spike that reaches a weight that is not zero: taps
    that fall on padding are none, as in `energy`. A *product* is a number other than a spike (the
    input, a sum, an average) that is not zero and reaches such a weight; what does not change in
    time is multiplied once, not in every step.

    Parameters
    ----------
    neurons : mapping of str to int
        How many neurons each layer that fires has.
    spikes, accumulates, products : mapping of str to Tensor
        int64, (sample,): of the layers that fire, of weighted layers that read spikes, and of those
        that read other numbers.
    """

    neurons: Mapping[str, int]
    spikes: Mapping[str, Tensor]
    accumulates: Mapping[str, Tensor]
    products: Mapping[str, Tensor]

    __repr__ = brief_repr


@torch.no_grad()
def run_deployed(network: DeployedNetwork, x: Tensor) -> Tensor:
    """The logits (sample, class), means over the steps, of samples (sample, *input shape).

    It computes in the number type of `x`. All steps are held at once: give samples in batches.
    """
    (wanted,) = network.graph.outputs
    result = x
    for node, output in _in_time(network, x):
        if node.name == wanted:
            result = output
    return _over_steps(result, len(x)).mean(0)


@torch.no_grad()
def measure_activity(network: DeployedNetwork, x: Tensor) -> Activity:
    """Count spikes and synaptic operations of samples (sample, *input shape)."""
    sizes = shapes(network.graph)
    reads_spikes = _reads_spikes(network.graph)
    spikes, accumulates, products = dict[str, Tensor](), dict[str, Tensor](), dict[str, Tensor]()

    def see(node: Node, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(node.op, Fire):
            spikes[node.name] = _per_sample(output, len(x))
        elif isinstance(node.op, Weighted):
            counts = accumulates if reads_spikes[node.inputs[0]] else products
            counts[node.name] = _per_sample(_reached(node.op, inputs[0]), len(x))

    for _ in _in_time(network, x, see):
        pass
    neurons = {name: torch.Size(sizes[name]).numel() for name in spikes}
    return Activity(neurons, spikes, accumulates, products)


@dataclass(frozen=True)
class _File:
    """What a file of a deployed network holds."""

    graph: Any
    steps: Steps
    notes: dict[str, Any]


def save_deployed(path: Path, network: DeployedNetwork, notes: Mapping[str, Any]) -> None:
    """Save a network as one safetensors file, with JSON `notes` (its history, its accuracy).

    Raises
    ------
    InputError
        If its input range is not declared.
    """
    store = TensorStore()
    plain = {
        "graph": graph_to_plain(network.graph.declared(path), store),
        "steps": network.steps,
        "notes": dict(notes),
    }
    write_file(path, KIND, plain, store.tensors)


def load_deployed(path: Path) -> tuple[DeployedNetwork, dict[str, Any]]:
    """Load a network and its notes; see `save_deployed`.

    Raises
    ------
    InputError
        If the file is missing, damaged, changed, or holds something else.
    """
    plain, tensors = read_file(path, KIND)
    held = filled(_File, plain, str(path))
    graph = graph_from_plain(held.graph, tensors, str(path)).declared(path)
    try:
        return DeployedNetwork(graph, held.steps), held.notes
    except GraphError as error:
        raise InputError(f"{path}: not a stored network ({error}); fold it again") from error


def _in_time(
    network: DeployedNetwork, x: Tensor, see: Seen | None = None
) -> Iterator[tuple[Node, Tensor]]:
    """Every node with its output: (sample, ...) while constant in time, else (step * sample, ...).

    All ops but `Fire` treat samples alone, so that steps can pass for samples.
    """
    samples, steps = len(x), network.steps

    def compute(node: Node, *inputs: Tensor) -> Tensor:
        if isinstance(node.op, Fire) or len({len(i) for i in inputs}) > 1:
            inputs = tuple(_at_each_step(i, samples, steps) for i in inputs)
        if isinstance(node.op, Fire):
            output = node.op.over_time(inputs[0].unflatten(0, (steps, samples))).flatten(0, 1)
        else:
            output = node.op(*inputs)
        if see is not None:
            see(node, inputs, output)
        return output

    return walk(network.graph, x, compute)


def _at_each_step(value: Tensor, samples: int, steps: int) -> Tensor:
    """A value that may be constant in time as (step * sample, ...)."""
    if len(value) == samples * steps:
        return value
    return value.expand(steps, *value.shape).flatten(0, 1)


def _over_steps(value: Tensor, samples: int) -> Tensor:
    """(step * sample, ...), or (sample, ...), as (step, sample, ...)."""
    return value.unflatten(0, (max(1, len(value) // max(1, samples)), samples))


def _per_sample(counts: Tensor, samples: int) -> Tensor:
    """Sums over all but the samples, int64."""
    return _over_steps(counts.to(torch.int64), samples).transpose(0, 1).flatten(1).sum(1)


def _reached(op: Weighted, x: Tensor) -> Tensor:
    """How many weights that are not zero meet cells that are not, for each output; exact."""
    ones = op.having(weight=(op.weight != 0).to(x.device, torch.float64), bias=None)
    return ones.products((x != 0).to(torch.float64)).round()


def _reads_spikes(graph: Graph) -> dict[str, bool]:
    """Whether each node gives nothing but 0 and 1."""
    found: dict[str, bool] = {}
    for node in graph.nodes:
        picks = isinstance(node.op, Pools) and node.op.picks
        kept = (picks or isinstance(node.op, Moves)) and all(found[i] for i in node.inputs)
        found[node.name] = isinstance(node.op, Fire) or kept
    return found
