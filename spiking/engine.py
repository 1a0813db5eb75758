"""What an engine is: it runs one network in time."""

from typing import Protocol

from torch import Tensor

from . import Trace


class Engine(Protocol):
    """Runs one network."""

    def run(self, x: Tensor, steps: int, *, record: bool = False) -> Trace:
        """(sample, *shape) real inputs, run for so many steps."""
        ...
