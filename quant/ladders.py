"""Build ladders from exact rationals: where the activation crosses from one level to the next.

The level k is reached where ``f(x) >= (k - start) unit``, with start 1/2 for rounding to nearest. With
``x = scale * C + shift`` the rung is ``C >= ceil((f^-1((k - start) unit) - shift) / scale)``.
"""

import math
from contextlib import suppress
from fractions import Fraction

from spikemorph.layers.activation import Activation
from spikemorph.layers.ladder import Ladder, Line
from spikemorph.layers.moving import widened

from .observe import Steps
from .scales import Scale, whole_tensor

ALWAYS, NEVER = -(2**62), 2**62  # rungs below and above every sum
LONGEST = 256  # longer ladders that are evenly spaced keep their line only


def build_ladder(op: Activation, steps: Steps, scale: Scale, shift: Scale) -> Ladder:
    """The ladder of an activation whose input is ``scale * C + shift``, channel by channel.

    A scale of zero makes a channel constant.
    """
    size = max(len(scale), len(shift), len(steps.unit))
    columns = (widened(column, size) for column in (scale, shift, steps.unit))
    channels = list(zip(*columns, strict=True))
    even = op.straight and all(s > 0 and _spans(op, steps, u) for s, _, u in channels)
    line = None
    if even:
        with suppress(OverflowError):  # then rungs alone
            line = even_line(steps.start, channels)
    unit = steps.unit[0]
    if line is not None and (steps.smax is None or steps.smax - steps.smin > LONGEST):
        return Ladder(None, steps.smin, steps.smax, unit, line)
    if steps.smax is None:
        if even:
            raise OverflowError("levels without a top need a line of 62 bits")
        raise ValueError(f"{type(op).__name__} needs a top level: its levels are not evenly spaced")
    levels = range(steps.smin + 1, steps.smax + 1)
    crossings = {u: [op.reaches((k - steps.start) * u) for k in levels] for u in {*steps.unit}}
    rows = {(s, h, u): [_rung(at, s, h) for at in crossings[u]] for s, h, u in {*channels}}
    rungs = [rows[channel] for channel in channels]
    if any(abs(rung) >= NEVER for row in rungs for rung in row):
        line = None  # what lies beyond every sum is cut there, so it is no longer even
    return Ladder(whole_tensor(rungs), steps.smin, steps.smax, unit, line)


def _spans(op: Activation, steps: Steps, unit: Fraction) -> bool:
    """Whether the function's own ends lie at or beyond the ladder's, so that the ladder clips."""
    low, high = (None if end is None else math.floor(end / unit + steps.start) for end in op.bounds)
    reaches_top = high is None or steps.smax is None or high >= steps.smax
    return reaches_top and (low is None or low <= steps.smin)


def _rung(crossing: Fraction | float, scale: Fraction, shift: Fraction) -> int:
    if isinstance(crossing, float):
        return ALWAYS if crossing < 0 else NEVER
    if scale == 0:
        return ALWAYS if shift >= crossing else NEVER
    return min(max(math.ceil((crossing - shift) / scale), ALWAYS), NEVER)


def even_line(first: Fraction, channels: list[tuple[Fraction, ...]]) -> Line:
    """``floor((scale C + shift + first unit) / unit)`` in whole numbers; rows (scale, shift, unit)."""
    rows = []
    for scale, shift, unit in channels:
        start = shift + first * unit
        bottom = math.lcm(*(f.denominator for f in (scale, start, unit)))
        numbers = [int(f * bottom) for f in (unit, scale, start)]
        shared = math.gcd(*numbers)
        rows.append([n // shared for n in numbers])
    threshold, factor, begin = whole_tensor(rows).unbind(1)
    return Line(threshold, factor, begin)
