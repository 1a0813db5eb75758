"""What values say of themselves in one line: kinds, settings and sizes, never the numbers of a tensor."""

from collections.abc import Collection, Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from fractions import Fraction

from torch import Tensor

_MOST = 6  # items of a collection that are shown


def brief(value: object) -> str:
    """A value in one line.

    >>> import torch
    >>> brief({"weight": torch.zeros(4, 3, dtype=torch.int8), "step": Fraction(1, 255)})
    '{weight: int8 4x3, step: 1/255}'
    """
    if isinstance(value, Tensor):
        sizes = "x".join(map(str, value.shape)) or "scalar"
        return f"{str(value.dtype).removeprefix('torch.')} {sizes}"
    if isinstance(value, Enum):
        return value.name.lower()
    if isinstance(value, Fraction):
        return str(value)
    if isinstance(value, Mapping):
        return f"{{{_listed([f'{key}: {brief(value[key])}' for key in _first(value)], value)}}}"
    if isinstance(value, list | tuple):
        inner = _listed([brief(item) for item in _first(value)], value)
        if isinstance(value, list):
            return f"[{inner}]"
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    return repr(value)


def brief_repr(self: object) -> str:
    """The `repr` of a frozen value: its kind, and its fields in brief where they are not the default.

    A dataclass takes it by ``__repr__ = brief_repr`` in its body.
    """
    assert is_dataclass(self)
    told = []
    for field in fields(self):
        value = getattr(self, field.name)
        default = field.default if field.default_factory is MISSING else field.default_factory()
        if field.repr and not _same(value, default):
            told.append(f"{field.name}={brief(value)}")
    return f"{type(self).__name__}({', '.join(told)})"


def _same(value: object, default: object) -> bool:
    return value is default or (type(value) is type(default) and value == default)


def _first(items: Collection[object]) -> list[object]:
    return [item for item, _ in zip(items, range(_MOST), strict=False)]


def _listed(shown: list[str], whole: Collection[object]) -> str:
    left = len(whole) - len(shown)
    return ", ".join([*shown, f"and {left} more"] if left else shown)
