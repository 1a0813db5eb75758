"""Build ladders from exact rationals: where the activation crosses from one level to the next.

The level k is reached where ``f(x) >= (k - 1/2) unit``. With ``x = scale * C + shift`` the rung is
``C >= ceil((f^-1((k - 1/2) unit) - shift) / scale)`` (exactness.md, section 2.1).
"""

import math
from fractions import Fraction

import torch

from spikemorph.layers.activation import Activation, Clip, Relay, ReLU
from spikemorph.layers.ladder import Ladder, Line

from .observe import Steps
from .units import Scale, widened

ALWAYS, NEVER = -(2**62), 2**62  # rungs below and above every sum
LONGEST = 256  # longer ladders that are evenly spaced keep their line only
_EVEN = (ReLU, Clip, Relay)  # the identity between their ends


def build_ladder(op: Activation, steps: Steps, scale: Scale, shift: Scale) -> Ladder:
    """The ladder of an activation whose input is ``scale * C + shift``, channel by channel.

    A scale of zero makes a channel constant.
    """
    size = max(len(scale), len(shift))
    channels = list(zip(widened(scale, size), widened(shift, size), strict=True))
    even = isinstance(op, _EVEN) and all(s > 0 for s, _ in channels)
    line = _line(steps, channels) if even else None
    if line is not None and steps.smax - steps.smin > LONGEST:
        return Ladder(None, steps.smin, steps.smax, steps.unit, line)
    middle = [
        op.reaches((k - Fraction(1, 2)) * steps.unit)
        for k in range(steps.smin + 1, steps.smax + 1)
    ]
    rungs = [[_rung(x, s, h) for x in middle] for s, h in channels]
    return Ladder(torch.tensor(rungs), steps.smin, steps.smax, steps.unit, line)


def _rung(crossing: Fraction | float, scale: Fraction, shift: Fraction) -> int:
    if isinstance(crossing, float):
        return ALWAYS if crossing < 0 else NEVER
    if scale == 0:
        return ALWAYS if shift >= crossing else NEVER
    return math.ceil((crossing - shift) / scale)


def _line(steps: Steps, channels: list[tuple[Fraction, Fraction]]) -> Line:
    """``floor((scale C + shift + unit / 2) / unit)`` with whole numbers."""
    rows = []
    for scale, shift in channels:
        start = shift + steps.unit / 2
        bottom = math.lcm(*(f.denominator for f in (scale, start, steps.unit)))
        numbers = [int(f * bottom) for f in (steps.unit, scale, start)]
        shared = math.gcd(*numbers)
        rows.append([n // shared for n in numbers])
    threshold, factor, start_ = torch.tensor(rows).unbind(1)
    return Line(threshold, factor, start_)
