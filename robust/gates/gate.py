"""What a sanity gate is: a check that an evaluation of robustness has not fooled itself.

A gate passes, raises a red flag, or says that it was not run and why; it never hides a number. The
list is that of Carlini et al., "On Evaluating Adversarial Robustness" (2019), with the flags of the
reference AutoAttack (Croce and Hein, ICML 2020) and what spiking networks add.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

from spikemorph.graph.tables import Table

from .context import GateContext


@dataclass(frozen=True)
class Finding:
    """What a gate measured.

    Parameters
    ----------
    passed : bool or None
        False raises a red flag; None: not run.
    detail : str
        The numbers, in words; where it was not run, why.
    exceptions : tuple of int
        The samples that speak against it, by their indices in the data set.
    points : float, optional
        How many points of all samples a robust accuracy is too high by, as far as it was seen; None of
        what measures no accuracy.
    """

    passed: bool | None
    detail: str
    exceptions: tuple[int, ...] = ()
    points: float | None = None


@dataclass(frozen=True)
class Gate:
    """A finding with what it is about.

    Parameters
    ----------
    name, title : str
        What options call it, and what people do.
    passed, detail, exceptions, points
        As in `Finding`.
    why : str
        What a failure would mean.
    """

    name: str
    title: str
    passed: bool | None
    detail: str
    why: str
    exceptions: tuple[int, ...] = ()
    points: float | None = None

    def to_dict(self) -> dict[str, object]:
        """Plain data."""
        return {
            "name": self.name,
            "title": self.title,
            "passed": self.passed,
            "detail": self.detail,
            "why": self.why,
            "exceptions": list(self.exceptions),
            "points": self.points,
        }


_NOT_ASKED = "not run: not asked for"
_NO_PATH = "not run: the network offers no gradient path"
_UNUSABLE = "not run: the network does not return usable logits (see gate logits)"

# Key: the gate's name. Row: from what is under test to the gate.
gates: Table[Callable[[GateContext], Gate]] = Table("gates")


def gate(
    name: str, title: str, why: str, *, attacks: bool = True, paths: bool = False
) -> Callable[[Callable[[GateContext], Finding]], Callable[[GateContext], Gate]]:
    """Enter a measurement in the table, with what it is called and what its failure means.

    One that `attacks` is not run on a network without usable logits, one that needs `paths` not on a
    network without gradients.
    """

    def enter(measure: Callable[[GateContext], Finding]) -> Callable[[GateContext], Gate]:
        @functools.wraps(measure)
        def judged(context: GateContext) -> Gate:
            if not context.asks(name):
                found = Finding(None, _NOT_ASKED)
            elif attacks and not context.usable:
                found = Finding(None, _UNUSABLE)
            elif paths and not context.target.paths:
                found = Finding(None, _NO_PATH)
            else:
                found = measure(context)
            shown = (found.passed, found.detail, why, found.exceptions, found.points)
            return Gate(name, title, *shown)

        return gates(name)(judged)

    return enter
