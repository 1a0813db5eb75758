"""When every neuron must have settled, for all inputs: the proof behind the certificate.

A neuron whose input is complete at step Q, and which may fire from then on, needs ``n`` steps for its
largest residual, and fires in step Q too; so it is final at ``Q + n - 1`` (exactness.md, theorem 1, with
the step in which the last input arrives counted once).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from spikemorph.graph import Input
from spikemorph.graph.once import once
from spikemorph.layers.ladder import Ladder
from spikemorph.layers.ranges import Range
from spikemorph.layers.staircase import top_level

from .bounds import ranges
from .network import Carry, Schedule, SpikingNetwork
from .neurons import Alphabet, Neuron
from .segments import segments

WHOLE = 2**63  # int64 holds whole numbers below this


@dataclass(frozen=True)
class Settling:
    """What is known of one neuron layer.

    ``gate`` is the first step at which it may fire. ``takes`` is the most steps it needs once its
    input is complete, ``final`` the step by which it has settled; both None where there is no such
    bound, and then ``reason`` says why.
    """

    gate: int
    takes: int | None
    final: int | None
    reason: str = ""


def settling(network: SpikingNetwork) -> dict[str, Settling]:
    """The settling of every neuron layer, by node name.

    Inside recurrent layers steps count from the beginning of an element, in the other parts of a
    recurrent network from when what they read has settled (`segments`).
    """
    return dict(_known(network))


@once
def _known(network: SpikingNetwork) -> dict[str, Settling]:
    if network.recurrent:
        return {
            f"{part.inside}{name}": own
            for part in segments(network)
            for name, own in _known(part.network).items()
        }
    if network.rate_coded:
        why = "inputs never stop (rate coding), so it has no settled state"
        return {node.name: Settling(1, None, None, why) for node in network.ladders()}
    bounds = ranges(network)
    final: dict[str, int | None] = {}
    found: dict[str, Settling] = {}
    for node in network.graph.nodes:
        complete = _latest([final[name] for name in node.inputs])
        if isinstance(node.op, Input):
            final[node.name] = network.lasts
        elif isinstance(node.op, Ladder):
            source, tracer = bounds[node.inputs[0]], bounds[node.name]
            neuron = network.neuron[node.name]
            own = _settling(network, node.op, neuron, complete, source)
            if membrane_peak(node.op, neuron, source, tracer) >= WHOLE:
                own = Settling(own.gate, None, None, "its membrane potential may pass 63 bits")
            found[node.name], final[node.name] = own, own.final
        else:
            final[node.name] = complete
    return found


def _latest(steps: list[int | None]) -> int | None:
    return None if None in steps else max((s for s in steps if s is not None), default=1)


def _settling(
    network: SpikingNetwork, op: Ladder, neuron: Neuron, complete: int | None, source: Range
) -> Settling:
    waits = network.schedule is Schedule.WAIT
    if complete is None:
        return Settling(1, None, None, "a layer before it has no settled state")
    gate = complete if waits else 1
    if neuron.negative_margin > 0:
        margin = f"{float(neuron.negative_margin):g} thresholds"
        return Settling(gate, None, None, f"{neuron.name} retracts only {margin} below zero")
    if op.smax is None or (not neuron.capped and top_level(op, source.high) > op.smax):
        return Settling(gate, None, None, f"{neuron.name} has no cap at the ladder's top level")
    # All input is there before the first spike, and nothing was sent before: spikes of one sign.
    once = gate >= complete and network.carry is Carry.RESET
    reach = op.smax - op.smin + neuron.overshoot(op.smax - op.smin)
    takes = neuron.settles_in(op.smin, op.smax) if once else neuron.settles_in(-reach, reach)
    if neuron.alphabet is Alphabet.DESCENDING and not once:
        takes = None
    if takes is None:
        return Settling(gate, None, None, _why_not(neuron, once))
    return Settling(gate, takes, complete + max(0, takes - 1))


def _why_not(neuron: Neuron, once: bool) -> str:
    if not once:  # waiting, it may still have to take back what it sent for the element before
        return f"{neuron.name} cannot take spikes back, and fires before its input is complete"
    return f"{neuron.name} cannot reach every level of the ladder"


def restless(network: SpikingNetwork, known: Mapping[str, Settling]) -> int | None:
    """The last step at which the clock alone may make something happen; None if there is no last.

    Until then input comes in, a gate is closed, or a few-spikes neuron counts down to its last digit;
    from then on the network is an autonomous map, and a silent step is a fixed point (theorem 3).
    """
    lasts = network.lasts
    if lasts is None:
        return None
    waits = [1]
    for name, own in known.items():
        neuron = network.neuron[name]
        digits = neuron.bits if neuron.alphabet is Alphabet.DESCENDING else 1
        waits.append(own.gate - 1 + max(0, digits - 1))
    return max(lasts, *waits)


def membrane_peak(op: Ladder, neuron: Neuron, source: Range, tracer: Range) -> int:
    """The largest whole number met while a neuron on an even ladder keeps its membrane potential.

    ``V = start + scale C - threshold S``, in units of 1 / scale, wherever the sum C and the tracer S
    lie within their bounds; a margin compares V and the threshold, both times its denominator.
    """
    if op.line is None:
        return 0
    line, margin = op.line, neuron.negative_margin
    ends = (source.low, source.high, tracer.low, tracer.high)
    columns = (line.start, line.scale, line.threshold, *ends)
    peaks = []
    for row in zip(*(c.tolist() for c in torch.broadcast_tensors(*columns)), strict=True):
        start, scale, threshold, low, high, least, most = map(int, row)  # these never overflow
        top = start + scale * high - threshold * least
        bottom = start + scale * low - threshold * most
        peaks.append(max(top, -bottom) * margin.denominator + margin.numerator * threshold)
    return max(peaks)
