"""What a part of a run must look like: shapes, derived from results, checked with a named place."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import reduce
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from spikemorph.graph import InputError
from spikemorph.graph.fields import Between

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
class Items:
    """A list of as many items as there are shapes, each of its own."""

    shapes: tuple["Shape", ...]


@dataclass(frozen=True)
class MapOf:
    """An object with keys of the user's choice, its values all of one shape."""

    shape: "Shape"


Shape = Kind | Maybe | ListOf | Items | MapOf | Mapping[str, "Shape"]
TEXT = Kind("a text", lambda v: isinstance(v, str))
TRUTH = Kind("true or false", lambda v: isinstance(v, bool))
WHOLE = Kind("a whole number", lambda v: isinstance(v, int) and not isinstance(v, bool))
NUMBER = Kind("a number", lambda v: isinstance(v, int | float) and not isinstance(v, bool))
ANYTHING = Kind("anything", lambda v: True)
_SINGLE: Mapping[Any, Kind] = {str: TEXT, bool: TRUTH, int: WHOLE, float: NUMBER, Any: ANYTHING}


def shape_of(
    result: type, *, leaving: Sequence[str] = (), computed: Sequence[str] = (), **others: Shape
) -> dict[str, Shape]:
    """The shape of a result's plain data: a key for every field of its dataclass, by declared types.

    Parameters
    ----------
    result : type
        A dataclass. A field that has a default may be absent from the data.
    leaving : sequence of str
        Fields that the plain data has not.
    computed : sequence of str
        Properties that it has.
    others
        Keys that are not as declared, or no fields at all.

    Raises
    ------
    TypeError
        If a field is of a type that JSON cannot say.
    """
    hints = get_type_hints(result, include_extras=True)
    found = {
        _key(field): _shape(hints[field.name])
        for field in fields(result)
        if field.name not in {*leaving, *others}
    }
    found |= {
        name: _shape(get_type_hints(getattr(result, name).fget)["return"]) for name in computed
    }
    return {**found, **others}


def within(kind: Kind, low: float, high: float) -> Kind:
    """The kind, from `low` to `high` only.

    >>> within(WHOLE, 0, 9).holds(10), within(WHOLE, 0, 9).name
    (False, 'a whole number, 0 to 9')
    """
    return Kind(f"{kind.name}, {low:g} to {high:g}", lambda v: kind.holds(v) and low <= v <= high)


def _key(field: Field[Any]) -> str:
    needed = field.default is MISSING and field.default_factory is MISSING
    return field.name if needed else f"{field.name}?"


def _shape(hint: Any) -> Shape:
    """The shape of plain data of a type."""
    origin, parts = get_origin(hint), get_args(hint)
    if hint in _SINGLE:
        return _SINGLE[hint]
    if is_dataclass(hint) and isinstance(hint, type):
        return shape_of(hint)
    if origin is Annotated:
        return reduce(_ruled, parts[1:], _shape(parts[0]))
    if origin is Literal:
        return Kind(f"one of {', '.join(parts)}", lambda v: isinstance(v, str) and v in parts)
    if origin in (Union, UnionType) and NoneType in parts and len(parts) == 2:
        return Maybe(_shape(next(part for part in parts if part is not NoneType)))
    if origin is tuple and parts[-1] is not Ellipsis:
        return Items(tuple(map(_shape, parts)))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return MapOf(_shape(parts[1]))
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return ListOf(_shape(parts[0]))
    raise TypeError(f"{hint}: a report has no shape for it")


def _ruled(shape: Shape, rule: object) -> Shape:
    """A shape with a rule that stands beside a field's type; see `spikemorph.graph.fields`."""
    if isinstance(shape, Kind) and isinstance(rule, Between):
        return within(shape, rule.low, rule.high)
    raise TypeError(f"{rule}: a report does not know how to check it")


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
    elif isinstance(shape, Items):
        count = len(shape.shapes)
        _require(isinstance(value, list) and len(value) == count, value, f"{count} items", place)
        for index, (item, own) in enumerate(zip(value, shape.shapes, strict=True)):
            checked(item, own, f"{place}[{index}]")
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
