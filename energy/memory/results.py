"""How much memory a spiking network takes: weights with their index, the model, and the working set.

Three levels, each the one before and more (energy.md, section 3.5):

    weights   the smallest of dense, bitmask, CSR and delta-coded, layer by layer, index included
    model     and biases, thresholds, scales
    run-time  and the state of live neurons, one step's spikes, one input; none grows with the steps

A layer's weights are compared with the same weights stored dense, and all of them with dense int8 and
float32. The ratio against float32 is a product of three factors: quantisation x sparsity x overhead.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

from spikemorph.graph.brief import brief_repr

_STATE_BITS = 16


@dataclass(frozen=True)
class WeightMemory:
    """What one weighted layer stores.

    Parameters
    ----------
    node : str
        Its name.
    rows, columns : int
        Its weight as a matrix: (out, in / groups * kernel).
    nonzero : int
        Weights that are not zero.
    value_bits : int
        Bits that its weights need, with their sign.
    format : str
        The smallest format.
    storage_bits, index_bits : int
        What the weights take in it, and the part of it that says where they belong.
    bias_bits : int
        The biases, at the width they need.
    formats : mapping of str to float
        For comparison, in bits: the four formats, ``coo``, torch's ``csr_int32`` and ``csr_int64``
        (values in the tensor's own type), and ``entropy``, the least on average that tells which
        weights are zero and then the others.
    tied_to : str or None
        The earlier node whose weight this is; it then takes no storage here.
    """

    node: str
    rows: int
    columns: int
    nonzero: int
    value_bits: int
    format: str
    storage_bits: int
    index_bits: int
    bias_bits: int
    formats: Mapping[str, float]
    tied_to: str | None = None

    __repr__ = brief_repr

    @property
    def weights(self) -> int:
        """Weights stored here, zeros included; none where they are tied to another node's."""
        return 0 if self.tied_to else self.rows * self.columns

    @property
    def dense_bits(self) -> int:
        """The same weights at the same width, zeros included."""
        return self.weights * self.value_bits

    def to_dict(self) -> dict[str, Any]:
        """The layer as plain data."""
        return {**asdict(self), "formats": dict(self.formats), "dense_bits": self.dense_bits}


@dataclass(frozen=True)
class StateMemory:
    """What one node keeps from step to step.

    Parameters
    ----------
    node, role : str
        Its name; ``neuron``, ``readout``, or ``pool`` for a max-pool that reads sums of others than
        neurons (these keep them as tracers).
    cells : int
        How many sums it keeps, one for every neuron.
    live : int
        Those that can ever change or fire, by proof from the weights; the others need no state.
    sum_bits : int or None
        Bits that hold every sum, transients included; None where there is no bound (rate coding).
    tracer_bits : int
        Bits of a neuron's tracer, what it has sent so far; 0 where the potential alone decides.
    spike_bits : int
        Bits of what one neuron sends in one step.
    """

    node: str
    role: str
    cells: int
    live: int
    sum_bits: int | None
    tracer_bits: int = 0
    spike_bits: int = 0

    def bits(self, width: int) -> int:
        """Bits of its state with sums of `width` bits."""
        return self.live * (width + self.tracer_bits)


@dataclass(frozen=True)
class Factors:
    """The ratio of dense float32 weights to the stored ones, as a product.

    Parameters
    ----------
    quantisation : float
        Float32 over the width that the weights need, all stored.
    sparsity : float
        All weights over those that are not zero, at that width.
    index_overhead : float
        The bits of non-zero weights over what is stored, index and fillers included; at most 1.
    """

    quantisation: float
    sparsity: float
    index_overhead: float

    @property
    def product(self) -> float:
        """Dense float32 over stored."""
        return self.quantisation * self.sparsity * self.index_overhead


@dataclass(frozen=True)
class MemoryResult:
    """The memory of one network, in bits; see the module's text.

    Parameters
    ----------
    layers : tuple of WeightMemory
        One for every weighted node, in running order.
    states : tuple of StateMemory
        One for every node that keeps something from step to step.
    threshold_bits, scale_bits : int
        Ladders, each as rungs or as a line, whichever is smaller; constants of joins and read-out.
    input_bits : int
        One sample on the input grid.
    state_width : int
        Assumed bits of a neuron's sum.
    """

    layers: tuple[WeightMemory, ...]
    states: tuple[StateMemory, ...]
    threshold_bits: int
    scale_bits: int
    input_bits: int
    state_width: int = _STATE_BITS

    __repr__ = brief_repr

    @property
    def weights_total(self) -> int:
        """Weights, zeros included; tied ones once."""
        return sum(layer.weights for layer in self.layers)

    @property
    def weights_nonzero(self) -> int:
        """Weights that are not zero; tied ones once."""
        return sum(layer.nonzero for layer in self.layers if not layer.tied_to)

    @property
    def storage_bits(self) -> int:
        """Weights with their index, each layer in its smallest format."""
        return sum(layer.storage_bits for layer in self.layers)

    @property
    def index_bits(self) -> int:
        """The part of `storage_bits` that says where weights belong."""
        return sum(layer.index_bits for layer in self.layers)

    @property
    def format(self) -> str:
        """The format of all layers, or ``mixed``."""
        names = {layer.format for layer in self.layers}
        return names.pop() if len(names) == 1 else "mixed"

    @property
    def dense_bits(self) -> int:
        """All weights at the width that their layer needs."""
        return sum(layer.dense_bits for layer in self.layers)

    @property
    def dense_int8_bits(self) -> int:
        """All weights as int8."""
        return 8 * self.weights_total

    @property
    def dense_fp32_bits(self) -> int:
        """All weights as float32."""
        return 32 * self.weights_total

    @property
    def factors(self) -> Factors | None:
        """Why the stored weights are smaller than dense float32; None where every weight is zero."""
        kept = sum(layer.nonzero * layer.value_bits for layer in self.layers if not layer.tied_to)
        if not kept:
            return None
        chain = (self.dense_fp32_bits, self.dense_bits, kept, self.storage_bits)
        ratios = (float(Fraction(a, b)) for a, b in zip(chain, chain[1:], strict=False))
        return Factors(*ratios)

    @property
    def rest_bits(self) -> int:
        """What the model holds beside weights: biases, thresholds, scales."""
        return sum(x.bias_bits for x in self.layers) + self.threshold_bits + self.scale_bits

    @property
    def model_bits(self) -> int:
        """Weights with their index, and the rest of the model."""
        return self.storage_bits + self.rest_bits

    @property
    def state_bits(self) -> int:
        """The state with sums of the assumed width."""
        return sum(state.bits(self.state_width) for state in self.states)

    @property
    def state_bits_proved(self) -> int | None:
        """The state with sums of the width that is proved to hold them; None without a proof."""
        proved = [s.bits(s.sum_bits) for s in self.states if s.sum_bits is not None]
        return sum(proved) if len(proved) == len(self.states) else None

    @property
    def spike_bits(self) -> int:
        """The spikes of one step, of all live neurons."""
        return sum(state.live * state.spike_bits for state in self.states)

    @property
    def runtime_bits(self) -> int:
        """The working set, with sums of the assumed width."""
        return self.model_bits + self.state_bits + self.spike_bits + self.input_bits

    @property
    def runtime_bits_proved(self) -> int | None:
        """The working set, with sums of the proved width; None without a proof."""
        proved = self.state_bits_proved
        return None if proved is None else self.runtime_bits - self.state_bits + proved

    def against(self, weight_bits: int) -> dict[str, float]:
        """How many times smaller each level is than with weights of so many bits.

        All else stays, so what sparsity and fewer bits do not touch (the state) counts on both sides.
        """
        more = weight_bits - self.storage_bits
        own = {"weights": self.storage_bits, "model": self.model_bits, "runtime": self.runtime_bits}
        return {name: (bits + more) / bits if bits else 1.0 for name, bits in own.items()}

    def to_dict(self) -> dict[str, Any]:
        """Plain data, with the keys of the command line's contract and more."""
        factors = self.factors
        dense = {"same_bits": self.dense_bits, "int8": self.dense_int8_bits}
        dense["fp32"] = self.dense_fp32_bits
        numbers = (
            "weights_total", "weights_nonzero", "storage_bits", "index_bits", "format",
            "dense_bits", "dense_int8_bits", "dense_fp32_bits",
            "threshold_bits", "scale_bits", "model_bits", "state_width", "state_bits",
            "state_bits_proved", "spike_bits", "input_bits", "runtime_bits", "runtime_bits_proved",
        )  # fmt: skip
        return {
            **{name: getattr(self, name) for name in numbers},
            "bias_bits": sum(layer.bias_bits for layer in self.layers),
            "removed_percent": self.removed_percent,
            "factors": None if factors is None else asdict(factors),
            "smaller_than": {name: self.against(bits) for name, bits in dense.items()},
            "layers": [layer.to_dict() for layer in self.layers],
            "states": [asdict(state) for state in self.states],
        }

    @property
    def removed_percent(self) -> float:
        """Weights that are zero, in percent."""
        return 100 * (1 - self.weights_nonzero / self.weights_total) if self.weights_total else 0.0
