"""Run the gates, all of them or some."""

from collections.abc import Callable

from spikemorph.graph import InputError

from . import effort, gradients, network, rivals
from .context import GateContext
from .gate import Gate, gates

FILLED_BY = (network, gradients, effort, rivals)  # importing them enters rows


def run_gates(
    context: GateContext, watch: Callable[[float], None] = lambda _: None
) -> tuple[Gate, ...]:
    """Every gate of the table; those that the settings do not name say so.

    `watch` is told how many are done.

    Raises
    ------
    InputError
        If the settings name an unknown gate; names the known ones.
    """
    for name in context.settings.only or ():
        if name not in gates:
            raise InputError(f"gate {name!r}: choose from {', '.join(gates)}")
    found: list[Gate] = []
    for row in gates.values():
        watch(len(found))
        found.append(row(context))
    return tuple(found)
