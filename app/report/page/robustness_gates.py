"""The sanity gates in the report: red flags that no reader overlooks, a checklist of all."""

from collections.abc import Sequence

from .. import formats
from ..blocks import Block, Check, Checklist
from ..shapes import TEXT, TRUTH, WHOLE, ListOf, Maybe, Plain, Shape

GATE: Shape = {
    "name": TEXT,
    "title": TEXT,
    "passed": Maybe(TRUTH),
    "detail": TEXT,
    "why": TEXT,
    "exceptions": ListOf(WHOLE),
}
_STATES = {True: ("passed", "good"), False: ("RED FLAG", "bad"), None: ("not run", "")}
_SHOWN = 16  # samples that are named of one gate


def red_flags(gates: Sequence[Plain]) -> list[Plain]:
    """The gates that failed."""
    return [gate for gate in gates if gate["passed"] is False]


def tally(gates: Sequence[Plain]) -> str:
    """How many gates passed, and how many were not run."""
    passed = sum(gate["passed"] is True for gate in gates)
    idle = sum(gate["passed"] is None for gate in gates)
    return f"{passed} passed, {idle} not run"


def verdict(gates: Sequence[Plain]) -> Checklist:
    """Whether the numbers below can be believed, in a box."""
    flags = red_flags(gates)
    if flags:
        return Checklist(
            f"{formats.plural(len(flags), 'red flag')}: do not trust the robust accuracy below",
            tuple(_check(gate) for gate in flags),
            "bad",
            f"Of {formats.plural(len(gates), 'sanity gate')}, {len(flags)} failed ({tally(gates)}). An "
            "attack that fails where it should succeed makes a network look robust that is not.",
        )
    if not any(gate["passed"] for gate in gates):
        text = "Run the evaluation with gates; they find attacks that are too weak."
        return Checklist(
            "No sanity gate was run: the robust accuracy may be inflated", (), "warn", text
        )
    text = f"{formats.plural(len(gates), 'sanity gate')}: {tally(gates)}. The checklist is below."
    return Checklist("No red flag", (), "good", text)


def checklist(gates: Sequence[Plain]) -> list[Block]:
    """Every gate: how it went, what was measured, what a failure would mean, which samples."""
    if not gates:
        return []
    return [Checklist("Sanity gates, at the largest eps", tuple(_check(gate) for gate in gates))]


def _check(gate: Plain) -> Check:
    state, tone = _STATES[gate["passed"]]
    start = "What it means" if gate["passed"] is False else "What a failure would mean"
    notes = [f"{start}: {gate['why']}"]
    if gate["exceptions"]:
        notes.append(f"Samples that speak against it: {_samples(gate['exceptions'])}.")
    found = gate["detail"].removeprefix("not run: ")
    return Check(state, tone, gate["title"], found[:1].upper() + found[1:], tuple(notes))


def _samples(indices: Sequence[int]) -> str:
    named = ", ".join(str(index) for index in indices[:_SHOWN])
    rest = len(indices) - _SHOWN
    return f"{named} and {rest} more" if rest > 0 else named
