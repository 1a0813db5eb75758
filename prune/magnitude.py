"""Magnitude pruning: the smallest weights go, at once."""

from dataclasses import dataclass
from typing import ClassVar

from spikemorph.graph import Graph

from .allocation import Uniform
from .masked import one_shot
from .methods import methods
from .task import PruneTask


@dataclass(frozen=True)
class Magnitude:
    """One shot by ``|w|``, by layer unless the task says otherwise, then training under the mask."""

    name: ClassVar[str] = "magnitude"

    def __call__(self, task: PruneTask) -> Graph:
        return one_shot(self, task, task.allocated(task.magnitudes(), Uniform()))


methods(Magnitude.name)(Magnitude())
