"""What a field may hold, derived from its declared type: the one check of values that come from files.

A type says the kind; rules beside it, as in ``Annotated[Tensor, WHOLE, Shape("out", "in")]``, say the
rest. Fields are checked in order, and sizes that one names hold for those after it.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from enum import Enum
from fractions import Fraction
from functools import cache
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

import torch
from torch import Tensor

from .errors import GraphError, InputError, UnsupportedError

Kind = TypeVar("Kind")
Known = dict[str, Any]  # sizes by name, as fields before gave them
LARGEST = 2**62  # of whole numbers: sums of two, and their absolute values, are int64
_FINEST = 1000  # fractions lie between 2**-1000 and 2**1000: their floats are numbers
_LONGEST_TEXT = 10_000
_REALS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_WHOLES = (torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8)


@dataclass(frozen=True)
class Numbers:
    """A rule: which number types a tensor may have."""

    name: str
    types: tuple[torch.dtype, ...]

    def __call__(self, value: Tensor, known: Known) -> str | None:
        return None if value.dtype in self.types else f"holds {value.dtype}, not {self.name}"


WHOLE = Numbers("whole numbers", _WHOLES)
NUMBERS = Numbers("numbers", (*_WHOLES, *_REALS))
TRUTHS = Numbers("true or false", (torch.bool,))


@dataclass(frozen=True)
class Shape:
    """A rule: a tensor's axes by name; ``channel?`` may be 1 too, ``*rest`` stands for any number.

    The number of axes that ``*rest`` stands for is known as ``rest`` then.
    """

    axes: tuple[str, ...]

    def __init__(self, *axes: str) -> None:
        object.__setattr__(self, "axes", axes)

    def __call__(self, value: Tensor, known: Known) -> str | None:
        found, names = tuple(value.shape), [axis for axis in self.axes if axis[0] != "*"]
        open_ended = len(names) < len(self.axes)
        complaint = f"has shape {found}, not ({', '.join(self.axes)})"
        if len(found) < len(names) or (len(found) > len(names) and not open_ended):
            return complaint
        sizes: list[tuple[str, Any]] = [
            (name.rstrip("?"), size)
            for name, size in zip(names, found, strict=False)
            if size != 1 or name[-1] != "?"
        ]
        if open_ended:
            rest = found[len(names) :]
            sizes += [(self.axes[-1], rest), (self.axes[-1][1:], len(rest))]
        for name, size in sizes:
            if known.setdefault(name, size) != size:
                return f"{complaint}: {name} is {known[name]}"
        return None


@dataclass(frozen=True)
class Count:
    """A rule: how many items a tuple has, by name."""

    name: str

    def __call__(self, value: tuple[Any, ...], known: Known) -> str | None:
        wanted = known.setdefault(self.name, len(value))
        return None if len(value) == wanted else f"has {len(value)} items for {wanted} {self.name}"


@dataclass(frozen=True)
class Between:
    """A rule: the least and the greatest that a number, or any number of a tensor, may be."""

    low: float = -math.inf
    high: float = math.inf

    def __call__(self, value: Any, known: Known) -> str | None:
        ends = (value.min(), value.max()) if isinstance(value, Tensor) else (value, value)
        for end in ends:
            if not self.low <= end <= self.high:
                found = end.item() if isinstance(end, Tensor) else end
                return f"is {_said(found)}, should lie within {self.low}..{self.high}"
        return None


@dataclass(frozen=True)
class Above:
    """A rule: what a number, or every number of a tensor, must be greater than."""

    low: float

    def __call__(self, value: Any, known: Known) -> str | None:
        least = value.min() if isinstance(value, Tensor) else value
        return None if least > self.low else f"must be above {self.low}"


def _infinite(value: float, known: Known) -> str | None:
    return "is no number" if math.isnan(value) else None


def _finite(value: float, known: Known) -> str | None:
    return None if math.isfinite(value) else f"is {value}, which is no finite number"


INFINITE = _infinite  # a rule: a float that has it may be infinite
_SINGLE: Mapping[type, str] = {int: "int", float: "float", str: "str", bool: "bool"}


def filled(kind: Callable[..., Kind], values: Any, where: str, sign: str = ": ") -> Kind:
    """A dataclass from plain values, every key and kind checked.

    Whole numbers pass as reals, lists as tuples, tables as dataclasses; `sign` leads to a key.

    Raises
    ------
    InputError
        Naming `where`, the key, what was found and what should stand there.
    """
    if not isinstance(values, Mapping):
        raise InputError(f"{where}: is {_said(values)}, should be a table; write it again")
    declared = {f.name: f for f in fields(cast(Any, kind))}
    if odd := sorted(map(str, set(values) - set(declared))):
        raise InputError(f"{where}: unknown keys {_said(odd)}; known: {', '.join(declared)}")
    needed = [
        n for n, f in declared.items() if f.default is MISSING and f.default_factory is MISSING
    ]
    if missing := [name for name in needed if name not in values]:
        raise InputError(f"{where}: keys {missing} are missing")
    hints, known = _hints(kind), Known()
    found = {
        name: fitted(values[name], hints[name], f"{where}{sign}{name}", known)
        for name in declared
        if name in values
    }
    try:
        return kind(**found)
    except (ValueError, GraphError, UnsupportedError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{where}: not a valid {_name(kind)}: {reason}; write it again") from error


def fitted(value: Any, hint: Any, where: str, known: Known | None = None) -> Any:
    """The value, if it is what the type says; see `filled`."""
    known = Known() if known is None else known
    origin = get_origin(hint)
    if hint is Any:
        return value
    if origin is Annotated:
        inner, *rules = get_args(hint)
        if inner is float and INFINITE not in rules:
            rules.insert(0, _finite)
        found = _kinds(value, inner, where, known)
        for rule in rules:
            if complaint := rule(found, known):
                raise InputError(f"{where}: {complaint}; write it again")
        return found
    if hint is float:
        return fitted(value, Annotated[float, _finite], where, known)
    return _kinds(value, hint, where, known)


def _kinds(value: Any, hint: Any, where: str, known: Known) -> Any:
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return _one_of(value, parts, where, known)
    if origin is Literal:
        return value if value in parts and type(value) is str else _refuse(value, hint, where)
    if origin is tuple:
        return _tuple(value, parts, where, known)
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
            raise InputError(f"{where}: is {_said(value)}, should be a table; write it again")
        return {key: fitted(item, parts[1], f"{where}.{key[:40]}") for key, item in value.items()}
    return _single(value, hint, where)


def _one_of(value: Any, choices: tuple[Any, ...], where: str, known: Known) -> Any:
    if value is None and NoneType in choices:
        return None
    rest = [choice for choice in choices if choice is not NoneType]
    fits = [c for c in rest if _could_be(value, c)] or (rest if len(rest) == 1 else [])
    if not fits:
        _refuse(value, Union[tuple(rest)], where)  # noqa: UP007  made of what was found
    return fitted(value, fits[0], where, known)


def _could_be(value: Any, hint: Any) -> bool:
    """Whether a value is of the class that a type is made on."""
    while get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    base = get_origin(hint) or hint
    if base is float:
        return type(value) in (int, float)
    if base in _SINGLE:
        return type(value) is base
    return isinstance(value, (base, list) if base is tuple else base)


def _tuple(value: Any, parts: tuple[Any, ...], where: str, known: Known) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise InputError(
            f"{where}: is {_said(value)}, should be a list: [{_said(value)}]; write it again"
        )
    if parts[-1] is Ellipsis:
        parts = (parts[0],) * len(value)
    if len(value) != len(parts):
        raise InputError(f"{where}: has {len(value)} items, not {len(parts)}; write it again")
    return tuple(
        fitted(item, part, f"{where}[{k}]", known)
        for k, (item, part) in enumerate(zip(value, parts, strict=True))
    )


def _single(value: Any, hint: Any, where: str) -> Any:
    if hint is float and type(value) is int and abs(value) <= LARGEST:
        return float(value)
    if isinstance(hint, type) and issubclass(hint, Enum):
        if type(value) not in (int, str, hint) or value not in list(hint):
            raise InputError(
                f"{where}: is {_said(value)}, should be one of {list(hint)}; write it again"
            )
        return hint(value)
    if is_dataclass(hint) and isinstance(value, Mapping):
        return filled(cast(Any, hint), value, where)
    if not (type(value) is hint if hint in _SINGLE else isinstance(value, hint)):
        _refuse(value, hint, where)
    if complaint := _complaint(value):
        raise InputError(f"{where}: {complaint}; write it again")
    return value


def _complaint(value: Any) -> str | None:
    """What is wrong with a value of the right class, whatever else its field asks."""
    if isinstance(value, str) and len(value) > _LONGEST_TEXT:
        return f"is a text of {len(value)} letters"
    if type(value) is int and not -LARGEST <= value <= LARGEST:
        return "is a whole number of more than 62 bits"
    if isinstance(value, Fraction) and value:
        bits = value.numerator.bit_length() - value.denominator.bit_length()
        long = max(value.numerator.bit_length(), value.denominator.bit_length()) > 4 * _FINEST
        if long or abs(bits) >= _FINEST:
            return f"is a fraction beyond 2**-{_FINEST}..2**{_FINEST}"
    return _tensor_complaint(value) if isinstance(value, Tensor) else None


def _tensor_complaint(value: Tensor) -> str | None:
    if not value.numel():
        return f"has shape {tuple(value.shape)} and holds nothing"
    if value.dtype in _REALS:
        return None if bool(torch.isfinite(value).all()) else "holds numbers that are not finite"
    if value.dtype not in (*_WHOLES, torch.bool):
        return f"holds {value.dtype}, which networks do not"
    if (
        value.dtype is torch.int64
        and not -LARGEST <= int(value.min()) <= int(value.max()) <= LARGEST
    ):
        return "holds whole numbers of more than 62 bits"
    return None


def _refuse(value: Any, hint: Any, where: str) -> None:
    raise InputError(f"{where}: is {_said(value)}, should be of kind {_name(hint)}; write it again")


def _name(hint: Any) -> str:
    if get_origin(hint) is Annotated:
        return _name(get_args(hint)[0])
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(_name(part) for part in get_args(hint) if part is not NoneType)
    return str(getattr(hint, "__name__", hint))


def _said(value: object) -> str:
    """A value in a message: short, one line, and no letter that a terminal would obey."""
    if isinstance(value, Tensor):
        return f"a tensor of {value.dtype} and shape {tuple(value.shape)}"
    if is_dataclass(value):
        return f"a {type(value).__name__}"
    text = " ".join(ascii(value).split())
    return text if len(text) <= 60 else text[:57] + "..."


@cache
def _hints(kind: Callable[..., Any]) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


Rule = Callable[[Any, Known], str | None]
