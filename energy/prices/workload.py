"""What every column of a comparison does in one inference, in the terms that prices are stated in."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

from spikemorph.graph import InputError

from ..counting.counts import Counts, LayerCounts
from ..results import UNCHANGED


class Encoder(Enum):
    """How often the analog input is multiplied by the first layer's weights."""

    MEASURED = "measured"  # as the network's coding injects it
    ONCE = "once"
    EVERY_STEP = "every step"


@dataclass(frozen=True)
class Widths:
    """Assumed word lengths, in bits, and the length of a spike queue, in words.

    Raises
    ------
    InputError
        If a number is below 1.
    """

    state: int = 16
    accumulator: int = 32
    queue_words: int = 1000

    def __post_init__(self) -> None:
        if min(self.state, self.accumulator, self.queue_words) < 1:
            raise InputError(f"{self}: word lengths and queues are 1 or more")


@dataclass(frozen=True)
class Frame:
    """One layer of a network that computes once: per inference, means over samples.

    ``bit_macs`` counts each product once for every bit of its activation that a bit-serial machine
    works on. Weights are stored as ``stored`` words of ``word_bits``, with their index where that is
    smaller; ``weight_reads`` counts accesses. ``weight_bits`` and ``activation_bits`` are 32 where
    `floating`. ``bias_adds`` are additions of constants.
    """

    layer: LayerCounts
    macs: float
    bit_macs: float
    adds: float
    scalings: float
    bias_adds: int
    input_reads: float
    weight_reads: float
    stored: int
    word_bits: int
    weight_bits: int
    activation_bits: int
    output_bits: int
    floating: bool = False


@dataclass(frozen=True)
class Spikes:
    """One layer of a spiking network: per inference, means over samples.

    `synops` are all events that reach a weight; `shifted` and `graded` those of a larger power of two
    and of any other size. ``analog`` counts products with input that passed no neuron, ``synapses``
    what one step would take if every input cell sent an event.
    """

    layer: LayerCounts
    steps: int
    analog: float
    analog_events: float
    analog_reads: float
    synops: float
    shifted: float
    graded: float
    synop_bits: float
    synop_reads: float
    synapses: int
    adds: float
    scalings: float
    bias_adds: float
    spikes_in: float
    spikes_out: float
    driven: float
    stored: int
    word_bits: int

    @property
    def neuron_steps(self) -> int:
        """Neurons times steps, at every element."""
        return self.layer.neurons * self.steps * self.layer.elements

    @property
    def idle(self) -> float:
        """Neuron-steps without input or spike."""
        return self.neuron_steps - self.driven

    @property
    def event_bits(self) -> int:
        """Bits of an event, from how many different ones were seen."""
        return max(1, (self.layer.event_levels - 1).bit_length())

    def scaled(self, by: float) -> "Spikes":
        """The layer with every spike count multiplied; input, biases and neurons stay."""
        changed = {name: by * getattr(self, name) for name in _SCALING}
        return replace(self, **changed)


_SCALING = (
    "synops", "shifted", "graded", "synop_bits", "synop_reads", "adds", "spikes_in", "spikes_out",
    "driven",
)  # fmt: skip


@dataclass(frozen=True)
class FrameColumn:
    """A network that computes once: in floats or integers, pruned or not, skipping zeros or not.

    ``bits`` of weights and activations; None for the network's own. One that skips what is `unchanged`
    adds to the sums of the element before what differences from it make (a delta network); keeping
    these sums, and comparing, costs it nothing here.
    """

    name: str
    masked: bool
    skipping: bool
    bits: int | None = None
    floating: bool = False
    unchanged: bool = False

    def loads(self, counts: Counts) -> list[Frame]:
        """One load for every layer."""
        return [self._load(layer, counts.samples) for layer in counts.layers]

    def _load(self, layer: LayerCounts, samples: int) -> Frame:
        weight_bits, activation_bits, output_bits = (
            own if self.bits is None else self.bits
            for own in (layer.weight_bits, layer.input_bits, layer.output_bits)
        )
        work = self._work(layer, samples)
        wider = activation_bits / max(1, layer.input_bits)  # set bits grow with the width
        serial = work.bits * wider if self.skipping else work.products * activation_bits
        stored, word_bits, indexed = _storage(layer, weight_bits, self.masked)
        # a convolution reads its input again for every product
        cells = work.products if layer.convolves else work.cells
        return Frame(
            layer, work.products, serial, work.adds, work.scalings,
            layer.bias_cells * (1 if self.unchanged else layer.elements),
            cells if layer.weights else work.adds,
            work.products if indexed else work.all_products, stored, word_bits,
            weight_bits, activation_bits, output_bits, self.floating,
        )  # fmt: skip

    def _work(self, layer: LayerCounts, samples: int) -> "_Work":
        if not self.skipping:
            products = layer.mac_masked if self.masked else layer.mac_dense
            cells = layer.inputs * layer.elements
            return _Work(
                products, layer.mac_dense, 0, layer.adds_dense, layer.scalings_dense, cells
            )
        names = _NOT_ZERO if self.masked else _NOT_ZERO_DENSE
        found = (getattr(layer, name) for name in (_CHANGED if self.unchanged else names))
        return _Work(*(number / samples for number in found))


@dataclass(frozen=True)
class _Work:
    """What a layer does once an inference: products, those of all weights, set bits in products,
    additions, scalings, cells read.
    """

    products: float
    all_products: float
    bits: float
    adds: float
    scalings: float
    cells: float


_NOT_ZERO = (
    "mac_effective", "mac_active", "mac_bits", "adds_active", "scalings_active", "active_inputs",
)  # fmt: skip
_NOT_ZERO_DENSE = ("mac_active", "mac_active", "mac_bits_dense_weights", *_NOT_ZERO[3:])
_CHANGED = (
    "mac_changed", "mac_changed_dense_weights", "mac_changed_bits", "adds_changed",
    "scalings_changed", "changed_inputs",
)  # fmt: skip


@dataclass(frozen=True)
class SpikingColumn:
    """A spiking network, pruned or through all weights, with its encoder run as said."""

    name: str
    masked: bool
    encoder: Encoder = Encoder.MEASURED

    def loads(self, counts: Counts) -> list[Spikes]:
        """One load for every layer."""
        return [self._load(layer, counts) for layer in counts.layers]

    def _load(self, layer: LayerCounts, counts: Counts) -> Spikes:
        stored, word_bits, indexed = _storage(layer, layer.weight_bits, self.masked)
        totals: dict[str, float] = {
            "synops": layer.synops if self.masked else layer.synops_dense_weights,
            "shifted": layer.synops_shifted if self.masked else layer.synops_dense_shifted,
            "graded": layer.synops_graded if self.masked else layer.synops_dense_graded,
            "synop_bits": layer.synop_bits if self.masked else layer.synop_bits_dense_weights,
            "synop_reads": layer.synops if indexed else layer.synops_dense_weights,
            "adds": layer.adds,
            "scalings": layer.scalings,
            "bias_adds": layer.bias_adds,
            "spikes_in": layer.spikes_in,
            "spikes_out": layer.spikes_out,
            "driven": layer.updates_driven,
            **self._analog(layer, counts.steps, indexed),
        }
        means = {name: total / counts.samples for name, total in totals.items()}
        return Spikes(
            layer=layer,
            steps=counts.steps,
            stored=stored,
            word_bits=word_bits,
            synapses=layer.mac_masked if self.masked else layer.mac_dense,
            **means,
        )

    def _analog(self, layer: LayerCounts, steps: int, indexed: bool) -> dict[str, float]:
        """Products with analog input, cells of it that are read, weights read for it."""
        products, everything = layer.analog_macs, layer.analog_macs_dense_weights
        events = float(layer.analog_events)
        if self.encoder is not Encoder.MEASURED:
            times = steps if self.encoder is Encoder.EVERY_STEP else 1
            products = layer.analog_macs_once * times
            measured, everything = everything, layer.analog_macs_once_dense_weights * times
            events *= everything / max(1, measured)
        return {
            "analog": products if self.masked else everything,
            "analog_events": events,
            "analog_reads": products if indexed else everything,
        }


def _storage(layer: LayerCounts, weight_bits: int, masked: bool) -> tuple[int, int, bool]:
    """Words, bits of a word, and whether only weights that are not zero are stored, with an index."""
    indexed = weight_bits + layer.index_bits
    if masked and layer.nonzero_weights * indexed < layer.weights * weight_bits:
        return layer.nonzero_weights, indexed, True
    return layer.weights, weight_bits, False


def frame_columns(counts: Counts) -> Sequence[FrameColumn]:
    """The networks that compute once, in the order of reports."""
    found = [FrameColumn("ann", masked=False, skipping=False, bits=32, floating=True)]
    for kind, bits in (("integer", None), ("int8", 8)):
        for masked in (False, True):
            for skipping in (False, True):
                name = f"{kind}_{'masked' if masked else 'dense'}{'_skipping' if skipping else ''}"
                found.append(FrameColumn(name, masked, skipping, bits))
    if counts.along:
        found.append(FrameColumn(UNCHANGED, masked=True, skipping=True, unchanged=True))
    return found


def spiking_columns() -> Sequence[SpikingColumn]:
    """The spiking networks, in the order of reports."""
    endings = {Encoder.MEASURED: "", Encoder.ONCE: "_encoder_once"}
    endings[Encoder.EVERY_STEP] = "_encoder_every_step"
    return [
        SpikingColumn(f"{name}{ending}", masked, encoder)
        for name, masked in (("snn_dense", False), ("snn", True))
        for encoder, ending in endings.items()
    ]
