"""Frozen values that can be written to a file and read back by the name of their class."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from fractions import Fraction
from typing import Any

from torch import Tensor

from .brief import brief_repr
from .errors import InputError
from .fields import filled
from .plain import Plain

_FRACTION, _LONGEST = re.compile(r"-?[0-9]+(/0*[1-9][0-9]*)?"), 2500
_KINDS: dict[str, type["Record"]] = {}


@dataclass(frozen=True, eq=False)
class Record:
    """A frozen dataclass; every subclass that is not `abstract` can be stored, under its class name.

    Fields may hold tensors, numbers, fractions, strings, ``None``, tuples and other records.
    Two subclasses of one name are refused when the second is defined. Their `repr` is brief.
    """

    __repr__ = brief_repr

    def __init_subclass__(cls, *, abstract: bool = False, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.__repr__ = cls.__repr__  # type: ignore[method-assign]  # its own, so that dataclass keeps it
        if abstract:
            return
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
        return [t for field in fields(value) for t in tensors_in(getattr(value, field.name))]
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
    """Read what `encode` wrote; refuse all else with an `InputError` that names `where`.

    Every field of a record is checked against its declared type (`fields`).
    """
    if plain is None or isinstance(plain, bool | int | float | str):
        return plain
    if isinstance(plain, list):
        return tuple(decode(item, tensors, where) for item in plain)
    match plain:
        case {"fraction": str(text), **rest} if not rest:
            return _fraction(text, where)
        case {"tensor": str(key), **rest} if key in tensors and not rest:
            return tensors[key]
        case {"record": str(name), "fields": dict(content), **rest} if name in _KINDS and not rest:
            return _record(_KINDS[name], content, tensors, where)
    raise InputError(
        f"{where}: {ascii(plain)[:60]} is not part of a stored network; write it again"
    )


def _fraction(text: str, where: str) -> Fraction:
    if len(text) > _LONGEST or not _FRACTION.fullmatch(text):  # an exponent could take for ever
        raise InputError(f"{where}: {ascii(text)[:60]} is no fraction; write the file again")
    return Fraction(text)


def _record(
    kind: type[Record], content: dict[str, Plain], tensors: Mapping[str, Tensor], where: str
) -> Record:
    wanted = {f.name for f in fields(kind)}
    if set(content) != wanted:
        odd = ascii(sorted(set(content) ^ wanted))[:200]
        raise InputError(
            f"{where}: a stored {kind.__name__} has the wrong fields {odd}; "
            "it was written by another version: convert the model again"
        )
    values = {key: decode(item, tensors, f"{where}, field {key}") for key, item in content.items()}
    return filled(kind, values, where, ", field ")
