"""Exact counts of what a network does, priced by many models; memory and storage."""

from .counting import count
from .counts import Counts
from .estimate import PRICE_LISTS, estimate_energy
from .loads import Widths
from .memory import MemoryResult
from .memory_model import measure_memory
from .prices import PriceList
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
