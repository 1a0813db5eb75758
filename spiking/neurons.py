"""One neuron family; every published integrate-and-fire neuron is one setting of it.

A neuron sums its input into C, knows the level F(C) its ladder gives it, and remembers in its tracer S
the signed sum of the spikes it has sent. At each step it sends one spike y towards the target:

    r = F(C) - S,    y = nearest spike the alphabet allows,    S := S + y

For an evenly spaced ladder of threshold theta this is the membrane recursion with soft reset,
``V := V + I; r = floor(V / theta) clipped to the ends; V := V - theta y``, since ``V = V0 + C - theta S``
(exactness.md, section 2.2, lemmas 1 and 2).
"""

from dataclasses import dataclass
from enum import IntEnum
from fractions import Fraction
from typing import Annotated

import torch
from torch import Tensor

from spikemorph.graph import InputError
from spikemorph.graph.fields import Between
from spikemorph.graph.records import Record

_BELOW_FOUR_THIRDS = 0xAAAAAA / 2**23  # a float32: the one below 4/3
_SIGN_AND_EXPONENT = -(2**23)  # these bits of a float32, as an int32


class Alphabet(IntEnum):
    """Which spikes a neuron can send in one step."""

    WHOLE = 0  # any whole number from -down to up; unit spikes where both are at most 1
    POWERS = 1  # plus or minus a power of two
    DESCENDING = 2  # in its k-th open step 2**(bits - k) or nothing


@dataclass(frozen=True)
class Neuron(Record):
    """Settings of the neuron family.

    Parameters
    ----------
    name : str
        What users call it.
    up, down : int or None
        The largest spike in either direction, None for no limit; ``down=0`` never retracts.
    alphabet : Alphabet
        Which spikes exist.
    capped : bool
        Whether the tracer stops at the ladder's top level; the first published neurons do not.
    negative_margin : Fraction
        A negative spike needs ``V <= -margin * theta``; with 0, the exact case, ``V < 0``.
    bits : int
        Word length of the DESCENDING alphabet.
    """

    name: str
    up: Annotated[int, Between(1)] | None = 1
    down: Annotated[int, Between(0)] | None = 1
    alphabet: Alphabet = Alphabet.WHOLE
    capped: bool = True
    negative_margin: Annotated[Fraction, Between(0)] = Fraction(0)
    bits: Annotated[int, Between(0, 62)] = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "alphabet", Alphabet(self.alphabet))
        if (self.up is not None and self.up < 1) or (self.down is not None and self.down < 0):
            raise ValueError(f"neuron {self.name}: it must be able to rise, and not fall upwards")
        if self.alphabet is Alphabet.POWERS and (self.up, self.down) != (None, None):
            raise ValueError(
                f"neuron {self.name}: powers of two have both signs and no largest one"
            )
        if self.negative_margin < 0:
            raise ValueError(f"neuron {self.name}: the negative margin is below zero")

    def spike(self, residual: int, since: int = 0) -> int:
        """The spike for a residual ``F(C) - S``; `since` counts open steps before this one."""
        size, sign = abs(residual), 1 if residual > 0 else -1
        if residual == 0:
            return 0
        if self.alphabet is Alphabet.DESCENDING:
            unit = 1 << max(0, self.bits - 1 - since)
            return unit if residual >= unit else 0
        if self.alphabet is Alphabet.POWERS:
            return sign * nearest_power(size)
        limit = self.up if sign > 0 else self.down
        return sign * (size if limit is None else min(size, limit))

    def settles_in(self, low: int, high: int) -> int | None:
        """The most steps that a residual between `low` and `high` takes to vanish; None if it may not.

        Exact for every alphabet: each step makes the residual smaller, so the count follows by
        recursion (exactness.md, lemmas 4 and 7).
        """
        if self.alphabet is Alphabet.DESCENDING:
            return self.bits if low >= 0 and high < 2**self.bits else None
        if low < 0 and self.down == 0:
            return None
        if self.alphabet is Alphabet.WHOLE:
            rise = -(-high // self.up) if self.up else min(high, 1)
            fall = -(low // self.down) if self.down else min(-low, 1)
            return max(rise, fall, 0)
        steps, least = (
            0,
            1,
        )  # sizes that are the least to need 1, 2, .. steps: 1, 3, 11, 43 (lemma 7)
        while least <= max(high, -low):
            steps, least = steps + 1, 4 * least - 1
        return steps

    def overshoot(self, span: int) -> int:
        """How far the tracer may pass the ladder's ends, for a ladder of `span` levels above one.

        A residual is at most the span and what was overshot before: the least such fixed point. The
        sizes met with most too much are 7, 13, 25, .. by 1, 3, 7, ..: ``6 m + 1`` by ``2 m - 1``.
        """
        over = 0
        if self.alphabet is Alphabet.POWERS:
            while span + over >= 6 * (over + 1) + 1:
                over = 2 * (over + 1) - 1
        return over


def nearest_power(size: int) -> int:
    """The power of two nearest to a positive number, the smaller one of two.

    >>> [nearest_power(n) for n in (1, 3, 5, 6, 7, 11, 13)]
    [1, 2, 4, 4, 8, 8, 16]
    """
    low = 1 << (size.bit_length() - 1)
    return low if size - low <= 2 * low - size else 2 * low


def nearest_powers(residual: Tensor, out: Tensor | None = None) -> Tensor:
    """The same for float32 whole numbers below ``2**23`` of either sign, with their signs; 0 for 0.

    It is the greatest power that is not above ``4/3`` of the number, a little less than that where two
    are as near; clearing a float's mantissa bits gives the greatest power that is not above it. (``3 *
    2**k`` times the float below 4/3 is the float below ``4 * 2**k``.)
    """
    level = torch.mul(residual, _BELOW_FOUR_THIRDS, out=out)
    return level.view(torch.int32).bitwise_and_(_SIGN_AND_EXPONENT).view(torch.float32)


def IF(*, capped: bool = True) -> Neuron:
    """Integrate-and-fire, soft reset: unit spikes, never negative (RMP; QCFS with ``V0 = theta/2``).

    Exact only where its input is complete before it fires: wait-then-fire, or the first layer.
    The published neuron has no cap.
    """
    return Neuron("if", up=1, down=0, capped=capped)


def SNM() -> Neuron:
    """Signed neuron with memory (IJCAI 2022): retracts only at ``V <= -theta``. Not exact."""
    return Neuron("snm", capped=False, negative_margin=Fraction(1))


def BIF() -> Neuron:
    """Bipolar integrate-and-fire: unit spikes of both signs, without an upper cap."""
    return Neuron("bif", capped=False)


def STBIF() -> Neuron:
    """Bipolar with a tracer and both caps (SpikeZIP-TF, ICML 2024, eq. 1-3): exact once settled."""
    return Neuron("st-bif")


def burst(most: int = 5) -> Neuron:
    """Burst neuron (IJCAI 2022): up to `most` spikes a step, never negative, without a cap."""
    return Neuron("burst", up=_positive(most, "burst"), down=0, capped=False)


def group(most: int = 15) -> Neuron:
    """Group neuron: any whole number up to `most` a step, of both signs."""
    return Neuron("group", up=_positive(most, "group"), down=most)


def pow2() -> Neuron:
    """The default: plus or minus a power of two a step, nearest to what is missing. Exact."""
    return Neuron("pow2", up=None, down=None, alphabet=Alphabet.POWERS)


def few_spikes(bits: int = 4) -> Neuron:
    """Few-spikes neuron (Stoeckl and Maass 2021): binary digits, largest first; wait-then-fire only."""
    return Neuron("few-spikes", up=None, down=0, alphabet=Alphabet.DESCENDING, bits=bits)


def _positive(number: int, name: str) -> int:
    if number < 1:
        raise InputError(f"a {name} neuron of {number}: choose 1 or more")
    return number
