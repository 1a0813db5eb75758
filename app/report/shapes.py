"""What a part of a run must look like: a small language of shapes, checked with a named place."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spikemorph.graph import InputError

Plain = Any  # what JSON can say: None, bool, int, float, str, lists and str-keyed dicts of these
_MOST = sys.float_info.max
DEEPEST = 40  # levels of nesting; results have fewer than ten


@dataclass(frozen=True)
class Kind:
    """One sort of single value."""

    name: str
    holds: Callable[[Plain], bool]


@dataclass(frozen=True)
class Maybe:
    """The shape, or null."""

    shape: "Shape"


@dataclass(frozen=True)
class ListOf:
    """A list of any length, its items all of one shape."""

    shape: "Shape"


@dataclass(frozen=True)
class MapOf:
    """An object with keys of the user's choice, its values all of one shape."""

    shape: "Shape"


Shape = Kind | Maybe | ListOf | MapOf | Mapping[str, "Shape"]
TEXT = Kind("a text", lambda v: isinstance(v, str))
TRUTH = Kind("true or false", lambda v: isinstance(v, bool))
WHOLE = Kind("a whole number", lambda v: isinstance(v, int) and not isinstance(v, bool))
NUMBER = Kind("a number", lambda v: isinstance(v, int | float) and not isinstance(v, bool))
ANYTHING = Kind("anything", lambda v: True)


def checked(value: Plain, shape: Shape, place: str) -> None:
    """Refuse a value that has not the shape.

    Parameters
    ----------
    value
        Plain data.
    shape : Shape
        A mapping asks for its keys (those that end in ``?`` may be absent); more keys are allowed.
    place : str
        Where the value comes from, such as ``energy.json``.

    Raises
    ------
    InputError
        Naming the place, the key, what was found and what should stand there.
    """
    if isinstance(shape, Maybe):
        if value is not None:
            checked(value, shape.shape, place)
    elif isinstance(shape, Kind):
        _require(shape.holds(value), value, shape.name, place)
    elif isinstance(shape, ListOf):
        _require(isinstance(value, list), value, "a list", place)
        for index, item in enumerate(value):
            checked(item, shape.shape, f"{place}[{index}]")
    elif isinstance(shape, MapOf):
        _require(isinstance(value, dict), value, "an object", place)
        for key, item in value.items():
            checked(item, shape.shape, _inside(place, key))
    else:
        _require(isinstance(value, dict), value, "an object", place)
        _keys(value, shape, place)


def as_plain(value: object, place: str, depth: int = 0) -> Plain:
    """A copy of what JSON can say of a value: tuples become lists.

    Raises
    ------
    InputError
        If JSON cannot say it (a tensor, a set, an infinite number), naming where it stands.
    """
    if depth > DEEPEST:
        raise InputError(f"{place}: nested deeper than {DEEPEST} levels; this is no result")
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, int | float):
        if not -_MOST <= value <= _MOST:
            found = value if isinstance(value, float) else "too large"
            raise InputError(f"{place}: is {found}, which is no finite number; measure it again")
        return value
    if isinstance(value, Mapping):
        for key in value:
            _require(isinstance(key, str), key, "a text as key", place)
        return {k: as_plain(v, _inside(place, k), depth + 1) for k, v in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return [as_plain(v, f"{place}[{k}]", depth + 1) for k, v in enumerate(value)]
    raise InputError(f"{place}: a {type(value).__name__} is no plain data; give numbers and texts")


def _keys(value: Mapping[str, Plain], shape: Mapping[str, Shape], place: str) -> None:
    for name, wanted in shape.items():
        key = name.removesuffix("?")
        if key in value:
            checked(value[key], wanted, _inside(place, key))
        elif key == name:
            raise InputError(f"{place}: has no key {key!r}; write it again, or remove the file")


def _inside(place: str, key: str) -> str:
    return f"{place}: {key}" if ": " not in place else f"{place}.{key}"


def _require(holds: bool, value: Plain, wanted: str, place: str) -> None:
    if not holds:
        found = repr(value)
        found = found if len(found) <= 40 else found[:37] + "..."
        raise InputError(f"{place}: is {found}, should be {wanted}; write it again")
