"""How wide the accumulators must be: bits for every sum, whatever the input."""

from spikemorph.layers.ranges import Range


def bits(bound: Range) -> int:
    """Bits of a signed integer that holds every value within the bound.

    >>> bits(Range.of(-8, 7)), bits(Range.of(0, 8))
    (4, 5)
    """
    low, high = int(bound.low.min()), int(bound.high.max())
    return 1 + max((-low - 1).bit_length() if low < 0 else 0, high.bit_length())
