"""What a price list is: constants with their sources, and formulas that turn loads into energy."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import IntEnum
from typing import Any

from ..counting.counts import Counts
from ..results import Parts, PriceRow
from .workload import Frame, Spikes, Widths, frame_columns, spiking_columns


class Evidence(IntEnum):
    """How a constant is known, the best first."""

    SILICON = 0  # measured on a chip
    SIMULATED = 1  # from circuit simulation
    DERIVED = 2  # worked out from published numbers
    FITTED = 3  # chosen so that published results come out
    ASSUMED = 4  # chosen by us

    @property
    def word(self) -> str:
        """The grade's name."""
        return self.name.lower()


@dataclass(frozen=True)
class Constant:
    """One number of a price list.

    Raises
    ------
    ValueError
        If it has no unit or no source.
    """

    name: str
    value: float
    unit: str
    source: str
    node: str
    evidence: Evidence

    def __post_init__(self) -> None:
        if not (self.unit and self.source):
            raise ValueError(f"constant {self.name!r}: give its unit and its source")

    def to_dict(self) -> dict[str, Any]:
        """The constant as plain data."""
        return {**asdict(self), "evidence": self.evidence.word}


class Values(Mapping[str, float]):
    """The values of constants by name, with the assumed word lengths."""

    def __init__(self, constants: Sequence[Constant], widths: Widths) -> None:
        self._values = {constant.name: constant.value for constant in constants}
        self.widths = widths

    def __getitem__(self, name: str) -> float:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


@dataclass(frozen=True)
class PriceList:
    """One energy model.

    Parameters
    ----------
    name, title, node, note : str
        Its short name; what it is; its technology node; what must be printed beside it.
    constants : tuple of Constant
        All numbers it uses.
    frame : callable or None
        ``frame(values, load) -> Parts`` for a layer that computes once, or None for a column it
        cannot price; None where the model prices no network without spikes.
    spikes : callable or None
        ``spikes(values, load) -> Parts`` for a layer of a spiking network.
    in_band : bool
        Whether it counts for the verdict.
    """

    name: str
    title: str
    node: str
    note: str
    constants: tuple[Constant, ...]
    frame: Callable[[Values, Frame], Parts | None] | None
    spikes: Callable[[Values, Spikes], Parts] | None
    in_band: bool = False

    @property
    def evidence(self) -> Evidence:
        """The weakest evidence of its constants."""
        return max(constant.evidence for constant in self.constants)

    def having(self, **values: float) -> "PriceList":
        """The list with other values of some constants, which are then assumed."""
        known = {constant.name for constant in self.constants}
        if odd := sorted(set(values) - known):
            raise ValueError(f"price list {self.name!r} has no constants {odd}, only {known}")
        changed = tuple(
            replace(c, value=values[c.name], evidence=Evidence.ASSUMED, source="given")
            if c.name in values
            else c
            for c in self.constants
        )
        return replace(self, constants=changed)

    def of_frame(self, loads: Sequence[Frame], widths: Widths) -> tuple[Parts, ...] | None:
        """The price of a network that computes once, pJ; None where it prices no such network."""
        if self.frame is None:
            return None
        values = Values(self.constants, widths)
        found = [self.frame(values, load) for load in loads]
        priced = tuple(parts for parts in found if parts is not None)
        return priced if len(priced) == len(found) else None

    def of_spikes(self, loads: Sequence[Spikes], widths: Widths) -> tuple[Parts, ...] | None:
        """The price of a spiking network, pJ; None where it prices no such network."""
        if self.spikes is None:
            return None
        values = Values(self.constants, widths)
        return tuple(self.spikes(values, load) for load in loads)

    def row(self, counts: Counts, dense: Counts, widths: Widths) -> PriceRow:
        """Every column's price. `dense` are the counts that the columns of dense networks use."""
        layers: dict[str, tuple[Parts, ...]] = {}
        for still in frame_columns(counts):
            parts = self.of_frame(still.loads(counts if still.masked else dense), widths)
            layers |= {} if parts is None else {still.name: parts}
        for moving in spiking_columns():
            parts = self.of_spikes(moving.loads(counts if moving.masked else dense), widths)
            layers |= {} if parts is None else {moving.name: parts}
        plain = tuple(constant.to_dict() for constant in self.constants)
        return PriceRow(
            self.name, self.title, self.node, self.evidence.word, self.note, self.in_band, layers,
            plain,
        )  # fmt: skip
