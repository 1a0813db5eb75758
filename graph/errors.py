"""What can be wrong with a network or with what the user gave; messages name it with a repair."""

from collections.abc import Sequence
from dataclasses import dataclass


class SpikemorphError(Exception):
    """The base of every error that spikemorph raises on purpose."""


class InputError(SpikemorphError):
    """A file, an option or data is unusable. One line: what, where, what to do."""


class GraphError(SpikemorphError):
    """A graph that is not a network: a name used twice, a missing input, shapes that do not fit."""


@dataclass(frozen=True)
class Problem:
    """One node that cannot be taken: its name, its op, the reason, and the repair."""

    node: str
    op: str
    reason: str
    repair: str

    def __str__(self) -> str:
        return f"node {self.node!r} ({self.op}): {self.reason}; {self.repair}"


class UnsupportedError(SpikemorphError):
    """A network with parts that have no exact meaning here: all of them, never just the first.

    `taken` names the nodes that were read all the same, with their ops; `unseen` those behind a
    problem, which were not looked at and may have problems of their own.
    """

    def __init__(
        self,
        problems: Sequence[Problem],
        taken: Sequence[tuple[str, str]] = (),
        unseen: Sequence[tuple[str, str]] = (),
    ) -> None:
        self.problems, self.taken, self.unseen = tuple(problems), tuple(taken), tuple(unseen)
        count = len(self.problems)
        head = f"{count} node{'s' if count != 1 else ''} cannot be converted"
        lines = [f"{head}:", *(f"  {problem}" for problem in self.problems)]
        if self.unseen:
            lines.append(f"  (not looked at, as they are behind: {len(self.unseen)} more)")
        super().__init__("\n".join(lines))
