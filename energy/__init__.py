"""Exact counts of what a network does, priced by many models; memory and storage."""

from .counting.count import count
from .counting.counts import Counts
from .estimate import PRICE_LISTS, estimate_energy
from .memory.measure import measure_memory
from .memory.results import MemoryResult
from .prices.price_list import PriceList
from .prices.workload import Widths
from .results import EnergyResult

__all__ = [
    "PRICE_LISTS",
    "Counts",
    "EnergyResult",
    "MemoryResult",
    "PriceList",
    "Widths",
    "count",
    "estimate_energy",
    "measure_memory",
]
