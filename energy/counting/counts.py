"""Exact counts of what a network does: one row for every node, one column for every sample."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from torch import Tensor

from spikemorph.graph.brief import brief_repr


@dataclass(frozen=True)
class LayerCounts:
    """Exact counts of one node that computes.

    The first block describes the node (per sample, whatever the data); the second block holds totals
    over all samples and steps. The *twin* is the integer network's one pass over the same samples.
    Padded taps are never counted. What does not apply to an op is 0.

    Parameters
    ----------
    node, op : str
        The node's name; the class of its op.
    inputs, outputs, channels, kernel : int
        Cells read, cells made, output channels, cells of one kernel (1 for a linear layer). Inside a
        recurrent layer cells, neurons and biases are those of one element.
    weights, nonzero_weights, weight_bits, index_bits : int
        What is stored: weights, those that are not zero, bits of one (with its sign), bits of a
        stored weight's place in its row.
    bias_cells : int
        Output cells to which a bias or shift that is not zero is added.
    input_bits, output_bits : int
        Bits that hold every value the twin may read here, and make.
    event_levels : int
        How many different event values were read, zero included.
    neurons, silent_neurons, silent_channels : int
        Neurons of a ladder; those that fired for no sample; channels of which all did.
    mac_dense, mac_masked : int
        The twin's products, through all weights and through those that are not zero.
    adds_dense, scalings_dense : int
        The twin's additions outside weighted layers, in pools (a comparison counts as one) and joins;
        its products with constants that are no weights.
    elements : int
        How often a sample goes through the node: once, or, inside a recurrent layer, at every element.
        Products, additions and scalings, above too, are those of all of them.
    mac_active, mac_effective : int
        The twin's products with activations that are not zero: through all weights, and through those
        that are not zero.
    mac_bits, mac_bits_dense_weights : int
        The same, each counted once for every set bit of the activation (a bit-serial machine).
    active_inputs, adds_active, scalings_active : int
        The twin's activations that are not zero (at weighted layers); its additions and scalings of
        terms that are not zero.
    analog_macs, analog_macs_dense_weights : int
        Products with input that has passed no neuron, as the coding injects it.
    analog_macs_once, analog_macs_once_dense_weights : int
        The same with every input injected once.
    synops_unit, synops_shifted, synops_graded : int
        Events that reached a weight that is not zero: of size 1, of a larger power of two, others.
    synops_dense_weights, synops_dense_shifted, synops_dense_graded : int
        The same events through all weights: all of them, and those of a larger power of two, others.
    synop_bits, synop_bits_dense_weights : int
        Synaptic operations, each counted once for every set bit of its event.
    analog_events, spikes_in : int
        Events that a weighted layer reads: of input that passed no neuron, and others.
    spikes_out, negative_spikes, graded_spikes : int
        Spikes sent; those below zero; those of a size above 1. Every spike resets its neuron.
    updates_driven, updates_idle : int
        Neuron-steps with input or a spike; all others.
    bias_adds, adds, scalings : int
        Biases added; additions in pools and joins; products with constants that are no weights.
    mac_changed, mac_changed_dense_weights, mac_changed_bits : int
    changed_inputs, adds_changed, scalings_changed : int
        Of a recurrent network's twin that works on differences from the element before (from nothing at
        the first): as ``mac_effective``, ``mac_active``, ``mac_bits``, ``active_inputs``,
        ``adds_active`` and ``scalings_active``, of differences that are not zero. 0 in other networks.
    """

    node: str
    op: str
    inputs: int = 0
    outputs: int = 0
    channels: int = 0
    kernel: int = 0
    weights: int = 0
    nonzero_weights: int = 0
    weight_bits: int = 0
    index_bits: int = 0
    bias_cells: int = 0
    input_bits: int = 0
    output_bits: int = 0
    event_levels: int = 0
    neurons: int = 0
    silent_neurons: int = 0
    silent_channels: int = 0
    mac_dense: int = 0
    mac_masked: int = 0
    adds_dense: int = 0
    scalings_dense: int = 0
    elements: int = 1

    mac_active: int = 0
    mac_effective: int = 0
    mac_bits: int = 0
    mac_bits_dense_weights: int = 0
    active_inputs: int = 0
    adds_active: int = 0
    scalings_active: int = 0
    analog_macs: int = 0
    analog_macs_dense_weights: int = 0
    analog_macs_once: int = 0
    analog_macs_once_dense_weights: int = 0
    synops_unit: int = 0
    synops_shifted: int = 0
    synops_graded: int = 0
    synops_dense_weights: int = 0
    synops_dense_shifted: int = 0
    synops_dense_graded: int = 0
    synop_bits: int = 0
    synop_bits_dense_weights: int = 0
    analog_events: int = 0
    spikes_in: int = 0
    spikes_out: int = 0
    negative_spikes: int = 0
    graded_spikes: int = 0
    updates_driven: int = 0
    updates_idle: int = 0
    bias_adds: int = 0
    adds: int = 0
    scalings: int = 0
    mac_changed: int = 0
    mac_changed_dense_weights: int = 0
    mac_changed_bits: int = 0
    changed_inputs: int = 0
    adds_changed: int = 0
    scalings_changed: int = 0

    @property
    def synops(self) -> int:
        """Synaptic operations: events that reached a weight that is not zero."""
        return self.synops_unit + self.synops_shifted + self.synops_graded

    @property
    def reads_analog_only(self) -> bool:
        """Whether numbers came in that were no spikes, and no spike did."""
        return self.analog_events > 0 and not self.spikes_in

    @property
    def convolves(self) -> bool:
        """Whether weights are shared over positions."""
        return self.op == "Convolution"

    @property
    def resets(self) -> int:
        """Soft resets: one for every spike."""
        return self.spikes_out

    def to_dict(self) -> dict[str, Any]:
        """The counts as plain data, with their derived totals."""
        return {**asdict(self), "synops": self.synops, "resets": self.resets}


_NAMES = tuple(f.name for f in fields(LayerCounts))
PER_SAMPLE = _NAMES[_NAMES.index("mac_active") :]
ADDITIVE = (
    "weights", "nonzero_weights", "bias_cells", "neurons", "silent_neurons", "silent_channels",
    "mac_dense", "mac_masked", "adds_dense", "scalings_dense", *PER_SAMPLE,
)  # fmt: skip


@dataclass(frozen=True)
class ElementCounts:
    """What one recurrent layer does at each element: one whole number for every element, all samples.

    Parameters
    ----------
    node : str
        The recurrent layer.
    synops, analog_macs, spikes_out, mac_effective, mac_changed : tuple of int
        As in `LayerCounts`, of all nodes of its body together.
    mac_masked : int
        The twin's products at one element of one sample, through weights that are not zero.
    """

    node: str
    synops: tuple[int, ...]
    analog_macs: tuple[int, ...]
    spikes_out: tuple[int, ...]
    mac_effective: tuple[int, ...]
    mac_changed: tuple[int, ...]
    mac_masked: int

    __repr__ = brief_repr


@dataclass(frozen=True)
class Counts:
    """The exact count table of one network on some samples.

    Parameters
    ----------
    layers : tuple of LayerCounts
        One for every node that computes, in running order; totals over the samples.
    samples, steps : int
        How many samples were run, for how many steps each.
    per_sample : mapping of str to Tensor
        For every name in `PER_SAMPLE`, (layer, sample) int64; its rows sum to the layers' totals.
    along : tuple of ElementCounts
        One for every recurrent layer.

    Raises
    ------
    ValueError
        If the table's rows do not sum to the layers' totals.
    """

    layers: tuple[LayerCounts, ...]
    samples: int
    steps: int
    per_sample: Mapping[str, Tensor] = field(default_factory=dict, repr=False)
    along: tuple[ElementCounts, ...] = ()

    def __post_init__(self) -> None:
        for name, table in self.per_sample.items():
            if table.sum(1).tolist() != [getattr(layer, name) for layer in self.layers]:
                raise ValueError(f"{name}: the per-sample counts do not sum to the layers' totals")

    def __repr__(self) -> str:
        return (
            f"Counts of {len(self.layers)} layers on {self.samples} samples, {self.steps} steps: an "
            f"inference takes {self.per_inference('synops'):,.1f} synaptic operations and "
            f"{self.per_inference('spikes_out'):,.1f} spikes"
        )

    def total(self, name: str) -> int:
        """The sum of one count over all layers."""
        return sum(int(getattr(layer, name)) for layer in self.layers)

    def per_inference(self, name: str) -> float:
        """A count that depends on the data, over all layers, as a mean over samples."""
        return self.total(name) / max(1, self.samples)

    @property
    def synops(self) -> int:
        """Synaptic operations of all layers, samples and steps."""
        return self.total("synops")

    @property
    def spikes(self) -> int:
        """Spikes of all neuron layers, samples and steps; each counts once, whatever its size."""
        return self.total("spikes_out")

    @property
    def spike_rate(self) -> float:
        """Spikes per neuron and step."""
        often = sum(layer.neurons * layer.elements for layer in self.layers)
        return self.spikes / max(1, often * self.samples * self.steps)

    @property
    def spikes_per_synapse(self) -> float:
        """Synaptic operations per inference over synapses (weights shared in space count often).

        Layers that read analog input only are left out of both.
        """
        synapses = sum(layer.mac_masked for layer in self.layers if not layer.reads_analog_only)
        return self.synops / max(1, synapses * self.samples)

    def to_dict(self) -> dict[str, Any]:
        """Totals and layers as plain data."""
        names = (*ADDITIVE, "synops", "resets")
        return {
            "samples": self.samples,
            "steps": self.steps,
            "totals": {name: self.total(name) for name in names},
            "spike_rate": self.spike_rate,
            "spikes_per_synapse": self.spikes_per_synapse,
            "layers": [layer.to_dict() for layer in self.layers],
            "along": [asdict(layer) for layer in self.along],
        }
