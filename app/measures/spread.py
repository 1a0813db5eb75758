"""What one recipe gives under several seeds: mean and deviation of every number."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from spikemorph.graph import InputError

from .comparison import Compared, Comparison


@dataclass(frozen=True)
class Spread:
    """Over seeds: the mean of a number, and its sample deviation."""

    mean: float
    deviation: float

    def __str__(self) -> str:
        return f"{self.mean:.2f} ± {self.deviation:.2f}"


def spread_of(results: Sequence[Comparison]) -> dict[str, dict[str, Spread]]:
    """By network, every number that all results have of it.

    Raises
    ------
    InputError
        If there are fewer than two results: one has no deviation.
    """
    if len(results) < 2:
        raise InputError(f"{len(results)} seeds: a deviation takes two or more")
    together = zip(*(result.networks for result in results), strict=True)
    return {networks[0].name: _numbers(networks) for networks in together}


def _numbers(networks: Sequence[Compared]) -> dict[str, Spread]:
    found = {}
    for field in fields(Compared):
        values: list[Any] = [getattr(network, field.name) for network in networks]
        if all(isinstance(value, int | float) for value in values):
            found[field.name] = Spread(statistics.fmean(values), statistics.stdev(values))
    return found
