"""How long an evaluation goes on: until a stated number of further steps and queries brings nothing."""

from dataclasses import dataclass

from spikemorph.graph import InputError

from ..attacks.base import Attack
from ..attacks.momentum_pgd import MomentumPgd
from ..attacks.refine import Refine
from ..threat import Threat

_NEAR = 0.5  # eps: the first step from an image that is good already


@dataclass(frozen=True)
class Patience:
    """After all attacks, rounds of margin PGD by every path and of `Refine`, from the best image so far.

    A sample that a round brought no nearer to an error is left alone; so all that stand at the end, but
    for those that were still coming nearer in the last round, have withstood a whole round.

    Parameters
    ----------
    steps : int
        Of a round, on every path.
    queries : int
        Of a round.
    rounds : int
        At most.

    Raises
    ------
    InputError
        If a number is less than 1.
    """

    steps: int = 20
    queries: int = 500
    rounds: int = 4

    def __post_init__(self) -> None:
        if min(self.steps, self.queries, self.rounds) < 1:
            raise InputError(
                f"patience of {self.steps} steps, {self.queries} queries and {self.rounds} rounds: give "
                "1 or more of each"
            )

    def attacks(self, threat: Threat, *, gradients: bool) -> tuple[Attack, ...]:
        """Those of a round; without `gradients`, only what asks for logits."""
        search = Refine(threat, self.queries, patience=self.queries)
        climb = MomentumPgd(threat, self.steps, first=_NEAR, onward=True)
        return (climb, search) if gradients else (search,)
