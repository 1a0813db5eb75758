"""How robustness is worded in the report: networks, threats, shares with their intervals."""

from collections.abc import Mapping

from ... import formats
from ...robust import eps_text
from ...shapes import NUMBER, Plain, within

PERCENT, FRACTION, EPS = within(NUMBER, 0, 100), within(NUMBER, 0, 1), within(NUMBER, 0, 1000)
_KINDS: Mapping[str, str] = {
    "ann": "float network",
    "through time": "spiking network, trained through time",
    "exact": "spiking network, converted exactly; attacked is what it says once settled",
}
_THREATS: Mapping[str, str] = {
    "linf": "change every pixel by at most eps (l∞)",
    "l2": "change the whole image by at most eps (Euclidean length, l2)",
}


def called(kind: str) -> str:
    """What stands in the row; a kind that is new keeps its own name."""
    return _KINDS.get(kind, kind)


def threat(norm: str) -> str:
    """What a norm allows."""
    return _THREATS.get(norm, norm)


def share(value: float, low: float, high: float) -> str:
    """Per cent with the interval.

    >>> share(13.3333, 6.914, 24.165)
    '13.33 % (6.9 to 24.2)'
    """
    return f"{formats.percent(value)} ({low:.1f} to {high:.1f})"


def largest(part: Plain) -> Plain | None:
    """The row of the largest eps, on which gates are run; None where nothing was attacked."""
    return max(part["eps"], key=lambda row: row["eps"], default=None)


def headline(part: Plain) -> Plain | None:
    """The row that a reader wants first: the eps it was trained for, else the smallest.

    At the largest eps, which is there to show that attacks work, hardly anything is left of any
    network. None where nothing was attacked.
    """
    rows = [row for row in part["eps"] if row["eps"] > 0]
    return next(
        (row for row in rows if trained_for(part, row)),
        min(rows, key=lambda row: row["eps"], default=None),
    )


def trained_for(part: Plain, row: Plain) -> bool:
    """Whether a row's eps is the one that the network was trained for, where that is known."""
    trained = part.get("trained_eps")
    return trained is not None and eps_text(row["eps"]) == eps_text(trained)


def same_eps(part: Plain | None, eps: float) -> Plain | None:
    """Another evaluation's row of this eps, if it has one."""
    rows = [] if part is None else part["eps"]
    return next((row for row in rows if eps_text(row["eps"]) == eps_text(eps)), None)
