"""Surrogate gradients by name: what files, recipes and the command line call them."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from spikemorph.graph import InputError

from .gradients import (
    Arctan,
    Backward,
    Exponential,
    PiecewiseLinear,
    Rectangular,
    Sigmoid,
    StraightThrough,
)
from .layerwise import Adaptive, RateGradient, RateThrough, TimeAveraged
from .membranes import Detached

SURROGATES: Mapping[str, type[Any]] = {
    "pcw": PiecewiseLinear,
    "exp": Exponential,
    "rect": Rectangular,
    "arctan": Arctan,
    "sigmoid": Sigmoid,
    "ste": StraightThrough,
    "bptr": RateThrough,
    "rga": RateGradient,
    "hart": TimeAveraged,
    "adaptive": Adaptive,
    "detached": Detached,
}


def surrogate_of(text: str) -> Backward:
    """The surrogate that a name and its numbers stand for; without numbers it has its own.

    >>> surrogate_of("exp 0.3 2")
    Exponential(scale=0.3, rate=2.0)

    Raises
    ------
    InputError
        If the name is unknown, or a number is none, one too many, or outside its range.
    """
    name, *rest = text.split() or [""]
    if name not in SURROGATES:
        raise InputError(f"surrogate {text!r}: choose one of {', '.join(SURROGATES)}")
    kind = SURROGATES[name]
    names = _numbers(kind)
    try:
        values = [float(word) for word in rest]
    except ValueError as error:
        raise InputError(f"surrogate {text!r}: give numbers behind the name") from error
    if len(values) > len(names):
        said = f"its numbers are {', '.join(names)}" if names else "it has no numbers"
        raise InputError(f"surrogate {text!r}: {said}")
    found: Backward = kind(**dict(zip(names, values, strict=False)))
    return found


def name_of(surrogate: Backward) -> str:
    """The text that `surrogate_of` reads as this very surrogate.

    Raises
    ------
    InputError
        If no text stands for it.
    """
    for name, kind in SURROGATES.items():
        if type(surrogate) is kind:
            text = " ".join([name, *(_written(getattr(surrogate, n)) for n in _numbers(kind))])
            if surrogate_of(text) == surrogate:
                return text
    raise InputError(f"surrogate {surrogate!r}: has no name to be saved by; choose another one")


def _numbers(kind: type[Any]) -> list[str]:
    """The fields that are numbers; a surrogate made of others has these at their defaults."""
    if not is_dataclass(kind):
        return []
    return [f.name for f in fields(kind) if isinstance(f.default, float)]


def _written(number: float) -> str:
    short = f"{number:g}"
    return short if float(short) == number else repr(number)
