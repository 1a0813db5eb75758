"""Exact scales: fractions per channel, snapped to few bits so that their ratios stay small."""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spikemorph.graph import InputError
from spikemorph.graph.fields import LARGEST
from spikemorph.layers.moving import Each, widened

Scale = tuple[Fraction, ...]  # one for each channel (axis 1), or one for all
MANTISSA_BITS = 6  # a scale is m * 2**e with m below 2**6: at most 3 % coarser than asked for


@contextmanager
def naming(node: str) -> Iterator[None]:
    """Say at which node numbers are too large, too small or too far apart."""
    try:
        yield
    except (OverflowError, ZeroDivisionError) as error:
        raise InputError(
            f"node {node!r}: its numbers, or those it reads, are too large, too small or too far apart "
            f"for exact integers ({error}); rescale its weights, or remove channels that do nothing"
        ) from error


def whole_tensor(numbers: Sequence[Any]) -> Tensor:
    """Whole numbers, or rows of them, as int64; OverflowError beyond 62 bits."""
    found = np.array(numbers, dtype=object)
    if max(abs(n) for n in found.flat) > LARGEST:
        raise OverflowError("a whole number has more than 62 bits")
    return torch.from_numpy(found.astype(np.int64))


def narrow(values: Tensor) -> Tensor:
    """Integers in the smallest type that holds them; reals are rounded down first.

    OverflowError where a real is no number, or of more than 62 bits.
    """
    if values.is_floating_point():
        if not bool((values.abs() <= LARGEST).all()):
            raise OverflowError("a weight, bias or factor needs more than 62 bits")
        values = torch.floor(values).to(torch.int64)
    low, high = (int(values.min()), int(values.max())) if values.numel() else (0, 0)
    for kind in (torch.int8, torch.int16, torch.int32):
        info = torch.iinfo(kind)
        if info.min <= low and high <= info.max:
            return values.to(kind)
    return values.to(torch.int64)


def snapped(value: float, *, up: bool = False) -> Fraction:
    """The nearest fraction ``m * 2**e`` with a mantissa of few bits; the next one up on request.

    >>> snapped(0.1, up=True)
    Fraction(13, 128)
    """
    exponent = math.frexp(value)[1] - MANTISSA_BITS
    exact = Fraction(value) / Fraction(2) ** exponent
    mantissa = math.ceil(exact) if up else round(exact)
    return mantissa * Fraction(2) ** exponent


def simple(value: float) -> Fraction:
    """The fraction of few digits nearest to a positive number, within one part in ``2**16``.

    >>> simple(1 / 49), simple(1e-6)
    (Fraction(1, 49), Fraction(1, 1000000))
    """
    mantissa, exponent = math.frexp(value)
    return Fraction(mantissa).limit_denominator(2**16) * Fraction(2) ** exponent


def common(scales: Iterable[Fraction]) -> Fraction:
    """The largest fraction that every scale is an integer multiple of.

    >>> common([Fraction(1, 4), Fraction(1, 6)])
    Fraction(1, 12)
    """
    result = Fraction(0)
    for scale in scales:
        bottom = math.lcm(result.denominator, scale.denominator)
        top = math.gcd(int(result * bottom), int(scale * bottom))
        result = Fraction(top, bottom)
    return result


def collapsed(scale: Sequence[Each]) -> tuple[Each, ...]:
    """A value per channel, a scale for example, with one entry for all where they agree."""
    return (scale[0],) if len(set(scale)) == 1 else tuple(scale)


def as_reals(scale: Scale) -> Tensor:
    """The scale as (channel,) or (1,), float64."""
    return torch.tensor([float(s) for s in scale], dtype=torch.float64)


def as_factors(scale: Scale, unit: Scale, rank: int) -> Tensor:
    """The integers ``scale / unit``, shaped (channel, 1, ...) for samples of `rank` axes.

    Raises
    ------
    ValueError
        If a ratio is not an integer: the plan of scales is wrong.
    """
    size = max(len(scale), len(unit))
    ratios = [a / b for a, b in zip(widened(scale, size), widened(unit, size), strict=True)]
    if any(ratio.denominator != 1 for ratio in ratios):
        raise ValueError(f"scales {scale[:3]} are no integer multiples of {unit[:3]}")
    factors = whole_tensor([int(ratio) for ratio in ratios])
    return factors.reshape(()) if size == 1 else factors.reshape(-1, *[1] * (rank - 1))
