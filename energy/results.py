"""What a network costs, as plain frozen results with units in their names."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from spikemorph.graph.brief import brief_repr

from .counting.counts import Counts

HEADLINE = "integer_masked_skipping"  # the baseline of the first verdict

UNCHANGED = "integer_masked_unchanged"  # recurrent networks: works on differences between elements

# Columns of every price row, in the order of reports; each is uJ per inference, or None.
ANN_COLUMNS = ("ann",)
INTEGER_COLUMNS = (
    "integer_dense", "integer_dense_skipping", "integer_masked", "integer_masked_skipping", UNCHANGED,
    "int8_dense", "int8_dense_skipping", "int8_masked", "int8_masked_skipping",
)  # fmt: skip
SPIKING_COLUMNS = (
    "snn_dense", "snn_dense_encoder_once", "snn_dense_encoder_every_step",
    "snn", "snn_encoder_once", "snn_encoder_every_step",
)  # fmt: skip
COLUMNS = (*ANN_COLUMNS, *INTEGER_COLUMNS, *SPIKING_COLUMNS)
PARTS = (
    "compute", "weight_memory", "state_memory", "spike_io", "addressing", "routing", "static",
)  # fmt: skip


@dataclass(frozen=True)
class Parts:
    """One layer's energy in one column, pJ per inference, by what it is spent on."""

    node: str
    compute: float = 0.0
    weight_memory: float = 0.0
    state_memory: float = 0.0
    spike_io: float = 0.0
    addressing: float = 0.0
    routing: float = 0.0
    static: float = 0.0

    @property
    def total(self) -> float:
        """The sum of the parts, pJ."""
        return sum(getattr(self, name) for name in PARTS)

    def to_dict(self) -> dict[str, Any]:
        """The node, and the parts that are not zero in uJ."""
        spent = {name: getattr(self, name) * 1e-6 for name in PARTS if getattr(self, name)}
        return {"node": self.node, **spent}


@dataclass(frozen=True)
class PriceRow:
    """What one model says every column costs.

    Parameters
    ----------
    name, title : str
        The model's short name; a phrase that explains it.
    node, evidence : str
        The technology node; the weakest evidence of its constants: silicon, simulated, derived,
        fitted or assumed.
    note : str
        What must be printed beside it ("compute-only", "absolute only, prices no ANN").
    in_band : bool
        Whether the band is made of it.
    layers : mapping of str to tuple of Parts
        For every column that the model prices: one `Parts` for each layer, in running order.
    constants : tuple of mapping
        Every constant as plain data: name, value, unit, source, node, evidence.
    """

    name: str
    title: str
    node: str
    evidence: str
    note: str
    in_band: bool
    layers: Mapping[str, tuple[Parts, ...]]
    constants: tuple[Mapping[str, Any], ...] = ()

    __repr__ = brief_repr

    def energy_uj(self, column: str) -> float | None:
        """uJ per inference in one column; None where the model prices no such network."""
        if column not in self.layers:
            return None
        return sum(part.total for part in self.layers[column]) * 1e-6

    def to_dict(self) -> dict[str, Any]:
        """The row as plain data; layers, by column, list what is not zero in uJ."""
        plain = {key: getattr(self, key) for key in ("name", "title", "node", "evidence", "note")}
        columns = {column: self.energy_uj(column) for column in COLUMNS}
        by_layer = {
            column: [part.to_dict() for part in parts if part.total]
            for column, parts in self.layers.items()
        }
        constants = [dict(constant) for constant in self.constants]
        shown = {"in_band": self.in_band, "layers": by_layer, "constants": constants}
        return {**plain, **columns, **shown}


@dataclass(frozen=True)
class Band:
    """Energy of the sparse SNN over that of a baseline column, over all models of the band."""

    against: str
    min: float
    median: float
    max: float
    verdict: str  # "lower", "higher" or "model-dependent"
    ratios: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class BreakEven:
    """The spike rate at which one model prices the sparse SNN like the baseline.

    ``scale`` is the factor on all measured spike counts, ``spike_rate`` spikes per neuron and step,
    ``spikes_per_synapse`` per inference; None with a `reason` where there is no such rate.
    ``idle_uj`` is what the network costs without any spike, ``per_scale_uj`` what the measured spikes
    add to it.
    """

    model: str
    against: str
    baseline_uj: float
    idle_uj: float
    per_scale_uj: float
    scale: float | None
    spike_rate: float | None
    spikes_per_synapse: float | None
    reason: str = ""


@dataclass(frozen=True)
class BitBudget:
    """Bit operations per inference, in no unit of energy (Shen et al., CVPR 2024)."""

    ace_integer_dense: float
    ace_integer_masked: float
    s_ace_dense: float
    s_ace_masked: float
    ns_ace_dense: float
    ns_ace_masked: float


@dataclass(frozen=True)
class LayerFit:
    """How many cores of a chip one layer takes, and which of its limits decides."""

    node: str
    neurons: int
    synapse_bits: int
    in_axons: int
    out_axons: int
    cores: int
    limit: str


@dataclass(frozen=True)
class ChipFit:
    """Whether a network fits on one chip, by the chip's published limits."""

    chip: str
    cores_used: int
    cores_available: int
    fits: bool
    layers: tuple[LayerFit, ...]
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class EnergyResult:
    """Counts, prices, band, break-even and memory of one network.

    Parameters
    ----------
    model, data : str
        What was counted, on which samples.
    counts, dense_counts : Counts
        The sparse network's counts; the dense network's, None where no dense network was given.
    dense_source : str
        What the dense SNN columns stand for, in words.
    prices : tuple of PriceRow
        One for every model.
    bands : tuple of Band
        The first is the headline: against the equally pruned, zero-skipping integer network.
    break_even : tuple of BreakEven
        For every model of the band, against the headline's baseline.
    literature : tuple of mapping
        Published break-even lines to draw beside: name, low, high, unit, source.
    bits : BitBudget
        Bit operations.
    fit : ChipFit
        The Loihi limits.
    memory : object, optional
        A result with ``to_dict()`` of what is stored.
    """

    model: str
    data: str
    counts: Counts
    dense_counts: Counts | None
    dense_source: str
    prices: tuple[PriceRow, ...]
    bands: tuple[Band, ...]
    break_even: tuple[BreakEven, ...]
    literature: tuple[Mapping[str, Any], ...]
    bits: BitBudget
    fit: ChipFit
    memory: Any = None

    def __repr__(self) -> str:
        said = f"{self.model} on {self.data}: {self.counts!r}"
        if (band := self.band) is None:
            return said
        return (
            f"{said}; energy over that of the integer network, equally pruned and skipping zeros: "
            f"{band.min:.2f} to {band.max:.2f}, {band.verdict}"
        )

    @property
    def band(self) -> Band | None:
        """The headline band; None where no price list of the band prices the baseline."""
        return next((band for band in self.bands if band.against == HEADLINE), None)

    @property
    def break_even_spike_rate(self) -> float | None:
        """The median over the band's models; one without break-even counts as a rate of 0."""
        rates = sorted(0.0 if b.spike_rate is None else b.spike_rate for b in self.break_even)
        if not rates:
            return None
        middle = (rates[(len(rates) - 1) // 2] + rates[len(rates) // 2]) / 2
        return middle if middle > 0 else None

    def row(self, name: str) -> PriceRow:
        """The price row of one model."""
        return next(row for row in self.prices if row.name == name)

    def to_dict(self) -> dict[str, Any]:
        """The result as plain data."""
        return {
            "model": self.model,
            "data": self.data,
            "n": self.counts.samples,
            "counts": self.counts.to_dict(),
            "dense_counts": None if self.dense_counts is None else self.dense_counts.to_dict(),
            "dense_source": self.dense_source,
            "prices": [row.to_dict() for row in self.prices],
            "band": None if self.band is None else asdict(self.band),
            "bands": [asdict(band) for band in self.bands],
            "break_even_spike_rate": self.break_even_spike_rate,
            "break_even": [asdict(point) for point in self.break_even],
            "literature": [dict(line) for line in self.literature],
            "bits": asdict(self.bits),
            "fit": asdict(self.fit),
            "memory": None if self.memory is None else self.memory.to_dict(),
        }
