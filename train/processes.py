"""Which of several processes this is, and what falls to it."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from spikemorph.graph import InputError


@dataclass(frozen=True)
class Processes:
    """Which of several processes this one is.

    Raises
    ------
    InputError
        If `rank` is not within 0 .. world - 1.
    """

    rank: int = 0
    world: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world:
            raise InputError(
                f"process {self.rank} of {self.world}: ranks count from 0 to world - 1; "
                "check RANK and WORLD_SIZE"
            )

    @classmethod
    def from_environment(cls, names: Mapping[str, str] | None = None) -> "Processes":
        """As torchrun tells by RANK and WORLD_SIZE; one process where it does not.

        Raises
        ------
        InputError
            If they are no whole numbers, or only one of them is there.
        """
        names = os.environ if names is None else names
        told = [names.get(name) for name in ("RANK", "WORLD_SIZE")]
        if told == [None, None]:
            return cls()
        try:
            rank, world = (int(value or "") for value in told)
        except ValueError as error:
            raise InputError(
                f"RANK is {told[0]!r} and WORLD_SIZE {told[1]!r}: set both to whole numbers, or "
                "neither"
            ) from error
        return cls(rank, world)
