"""From a network and samples to counts, prices, band and break-even: the room's front door."""

from torch import Tensor

from spikemorph.graph import InputError
from spikemorph.spiking import SpikingNetwork

from .bands import BASELINES, LITERATURE, band, break_even
from .counting.count import count
from .counting.counts import Counts
from .fits import fit_loihi
from .memory.measure import measure_memory
from .prices.bitops import bits_of
from .prices.chips import LOIHI_SANAFE, LOIHI_TABLE2, SPINNAKER2, TRUENORTH
from .prices.compute import SYNOPS_FP32, SYNOPS_INT
from .prices.devices import ARM, CPU, GPU
from .prices.memory_access import MEM45_CLAMPED, MEM45_LINE
from .prices.price_list import PriceList
from .prices.traffic import RATIOS, STEP, yan22
from .prices.workload import Widths
from .results import EnergyResult

PRICE_LISTS: tuple[PriceList, ...] = (
    SYNOPS_FP32, SYNOPS_INT, MEM45_LINE, MEM45_CLAMPED, STEP, *(yan22(ratio) for ratio in RATIOS),
    LOIHI_TABLE2, LOIHI_SANAFE, TRUENORTH, SPINNAKER2, CPU, GPU, ARM,
)  # fmt: skip
_WIDTHS = Widths()


def estimate_energy(
    network: SpikingNetwork,
    x: Tensor,
    steps: int,
    *,
    dense: SpikingNetwork | None = None,
    dense_steps: int | None = None,
    widths: Widths = _WIDTHS,
    price_lists: tuple[PriceList, ...] = PRICE_LISTS,
    model: str = "",
    data: str = "",
) -> EnergyResult:
    """Count what a network does on samples, and price it by many models.

    Parameters
    ----------
    network : SpikingNetwork
        The network; pruned weights are zero in it.
    x : Tensor
        (sample, *shape) real inputs on the network's grid.
    steps : int
        How many steps every sample is run for.
    dense : SpikingNetwork, optional
        The same network un-pruned. Without it, the columns of dense networks are the same spikes
        through all weights.
    dense_steps : int, optional
        How many steps that one is run for: its own; as many as `network` if left out.
    widths : Widths
        Assumed word lengths.
    price_lists : tuple of PriceList
        The models.
    model, data : str
        Names for the result.

    Raises
    ------
    InputError
        If there are no samples, no steps, a value outside the input grid, or the dense network takes
        other inputs.
    UnsupportedError
        Naming every node whose work cannot be counted.
    """
    if dense is not None and dense.grid.interval != network.grid.interval:
        raise InputError(
            f"the dense network takes inputs in {dense.grid.interval}, the network in "
            f"{network.grid.interval}; compare networks made for the same inputs"
        )
    counts = count(network, x, steps)
    other = None if dense is None else count(dense, x, dense_steps or steps)
    return priced(network, counts, other, widths, price_lists, model=model, data=data)


def priced(
    network: SpikingNetwork,
    counts: Counts,
    dense: Counts | None = None,
    widths: Widths = _WIDTHS,
    price_lists: tuple[PriceList, ...] = PRICE_LISTS,
    *,
    model: str = "",
    data: str = "",
) -> EnergyResult:
    """The result from counts that were made before; see `estimate_energy`."""
    base = counts if dense is None else dense
    rows = tuple(price.row(counts, base, widths) for price in price_lists)
    bands = tuple(b for b in (band(rows, against) for against in BASELINES) if b is not None)
    pairs = zip(price_lists, rows, strict=True)
    evens = (break_even(p, row, counts, widths) for p, row in pairs if row.in_band)
    return EnergyResult(
        model=model,
        data=data,
        counts=counts,
        dense_counts=dense,
        dense_source="the same spikes through all weights"
        if dense is None
        else "measured on the dense network",
        prices=rows,
        bands=bands,
        break_even=tuple(point for point in evens if point is not None),
        literature=LITERATURE,
        bits=bits_of(counts, base),
        fit=fit_loihi(network.graph, counts),
        memory=measure_memory(network, widths.state),
    )
