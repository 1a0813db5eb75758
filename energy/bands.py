"""Whether a spiking network costs less: a band over many models, a word, and where costs are even."""

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

from .counting.counts import Counts
from .prices.price_list import PriceList
from .prices.workload import Spikes, Widths, spiking_columns
from .results import HEADLINE, UNCHANGED, Band, BreakEven, PriceRow

BASELINES = (
    HEADLINE, UNCHANGED, "integer_masked", "integer_dense_skipping", "integer_dense",
    "int8_masked_skipping", "int8_masked", "int8_dense_skipping", "int8_dense", "ann", "snn_dense",
)  # fmt: skip
LITERATURE: tuple[Mapping[str, Any], ...] = (
    {
        "name": "IF neurons compete with optimised networks",
        "low": 0.15,
        "high": 1.38,
        "unit": "spikes per synapse and inference",
        "source": "Dampfhoffer et al., IEEE TETCI 7(3), 2023",
    },
    {
        "name": "break-even of rate-coded networks",
        "low": 1.72,
        "high": 1.72,
        "unit": "spikes per synapse and inference",
        "source": "Davidson and Furber, Front. Neurosci. 15:651141, 2021",
    },
    {
        "name": "break-even at T = 5, 4-bit weights, fan-in 4096",
        "low": 0.057,
        "high": 0.057,
        "unit": "spikes per neuron and step",
        "source": "Yan et al., arXiv 2409.08290",
    },
)
NO_BREAK_EVEN = "no break-even: idle cost alone exceeds the baseline"
_HIGHEST = 2.0**40  # a factor on spikes that no network reaches


def band(rows: Sequence[PriceRow], against: str) -> Band | None:
    """The sparse SNN's energy over a baseline column's, over the models of the band that price both.

    None where no model does.
    """
    ratios: dict[str, float] = {}
    for row in rows:
        own, base = row.energy_uj("snn"), row.energy_uj(against)
        if row.in_band and own is not None and base:
            ratios[row.name] = own / base
    if not ratios:
        return None
    low, high = min(ratios.values()), max(ratios.values())
    return Band(against, low, median(ratios.values()), high, verdict(low, high), ratios)


def verdict(low: float, high: float) -> str:
    """The word for a band of ratios: all below one, all above, or it depends on the model."""
    if high < 1:
        return "lower"
    return "higher" if low > 1 else "model-dependent"


def break_even(price: PriceList, row: PriceRow, counts: Counts, widths: Widths) -> BreakEven | None:
    """Where a model prices the sparse SNN like the headline's baseline, if all spikes scale alike.

    Energy is affine in the factor a on all spike counts, ``E(a) = A a + B``, so ``a = (E0 - B) / A``;
    where a model saturates, the factor is found by bisection. None where the model prices no
    baseline.
    """
    base = row.energy_uj(HEADLINE)
    if base is None:
        return None
    (column,) = (c for c in spiking_columns() if c.name == "snn")
    loads = column.loads(counts)

    def energy_uj(factor: float) -> float:
        return _total_uj(price, [load.scaled(factor) for load in loads], widths)

    idle, here = energy_uj(0.0), energy_uj(1.0)
    facts = (price.name, HEADLINE, base, idle, here - idle)
    if idle >= base:
        return BreakEven(*facts, None, None, None, NO_BREAK_EVEN)
    if here <= idle:
        return BreakEven(*facts, None, None, None, "no break-even: no spike costs anything")
    scale = _even(energy_uj, base, (base - idle) / (here - idle))
    return BreakEven(*facts, scale, scale * counts.spike_rate, scale * counts.spikes_per_synapse)


def _total_uj(price: PriceList, loads: Sequence[Spikes], widths: Widths) -> float:
    priced = price.of_spikes(loads, widths)
    return sum(part.total for part in priced or ()) * 1e-6


def _even(energy_uj: Callable[[float], float], base: float, guess: float) -> float:
    """The factor at which a rising energy is `base`: the affine guess, or by bisection."""
    if abs(energy_uj(guess) - base) <= 1e-9 * base:
        return guess
    low, high = 0.0, 1.0
    while energy_uj(high) < base and high < _HIGHEST:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if energy_uj(middle) < base else (low, middle)
    return high
