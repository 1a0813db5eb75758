"""Frozen values that can be written to a file and read back by the name of their class."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from fractions import Fraction
from typing import Any

from torch import Tensor

from .errors import InputError

Plain = Any  # what JSON holds: None, bool, int, float, str, list, dict
_KINDS: dict[str, type["Record"]] = {}


@dataclass(frozen=True, eq=False)
class Record:
    """A frozen dataclass; every subclass can be stored, under its class name.

    Fields may hold tensors, numbers, fractions, strings, ``None``, tuples and other records.
    Two subclasses of one name are refused when the second is defined.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if cls.__name__ in _KINDS and _KINDS[cls.__name__].__module__ != cls.__module__:
            raise TypeError(f"two records are named {cls.__name__}: rename one of them")
        _KINDS[cls.__name__] = cls


def tensors_in(value: object) -> list[Tensor]:
    """Every tensor that a value holds, in tuples and records too, in order."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, tuple):
        return [tensor for item in value for tensor in tensors_in(item)]
    if isinstance(value, Record):
        return [tensor for item in vars(value).values() for tensor in tensors_in(item)]
    return []


def encode(value: Any, store: Callable[[Tensor], str]) -> Plain:
    """Write a value as JSON; `store` keeps a tensor and returns its key."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Fraction):
        return {"fraction": str(value)}
    if isinstance(value, Tensor):
        return {"tensor": store(value)}
    if isinstance(value, tuple):
        return [encode(item, store) for item in value]
    if isinstance(value, Record) and is_dataclass(value):
        content = {f.name: encode(getattr(value, f.name), store) for f in fields(value)}
        return {"record": type(value).__name__, "fields": content}
    raise TypeError(f"a {type(value).__name__} cannot be stored: {value!r}")


def decode(plain: Plain, tensors: Mapping[str, Tensor], where: str) -> Any:
    """Read what `encode` wrote; refuse all else with an `InputError` that names `where`."""
    if plain is None or isinstance(plain, bool | int | float | str):
        return plain
    if isinstance(plain, list):
        return tuple(decode(item, tensors, where) for item in plain)
    match plain:
        case {"fraction": str(text)}:
            return _fraction(text, where)
        case {"tensor": str(key)} if key in tensors:
            return tensors[key]
        case {"record": str(name), "fields": dict(content)} if name in _KINDS:
            return _record(_KINDS[name], content, tensors, where)
    raise InputError(
        f"{where}: {str(plain)[:60]!r} is not part of a stored network; write it again"
    )


def _fraction(text: str, where: str) -> Fraction:
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError) as error:
        raise InputError(f"{where}: {text!r} is no fraction; write the file again") from error


def _record(
    kind: type[Record], content: dict[str, Plain], tensors: Mapping[str, Tensor], where: str
) -> Record:
    wanted = {f.name for f in fields(kind)}
    if set(content) != wanted:
        odd = sorted(set(content) ^ wanted)
        raise InputError(
            f"{where}: a stored {kind.__name__} has the wrong fields {odd}; "
            "it was written by another version: convert the model again"
        )
    values = {key: decode(item, tensors, f"{where}.{key}") for key, item in content.items()}
    try:
        return kind(**values)
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{where}: not a valid {kind.__name__}: {error}") from error
