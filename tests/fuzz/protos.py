"""Forged protobuf messages: any field of any message, by what its descriptor says it is."""

from collections.abc import Iterator
from random import Random
from typing import Any

from .watch import PAYLOAD

_WHOLE = (0, 1, -1, 2, 3, 7, 16, 255, 2**20, 2**31 - 1, -(2**31), 2**40, 2**63 - 1, -(2**63))
_REAL = (0.0, 1.0, -1.0, 1e-30, 1e30, 3e38, float("nan"), float("inf"), -float("inf"), 1e-45)
_TEXT = ("", "x", "\0", "a" * 300, "../canary.bin", "canary.bin", "/etc/hostname", PAYLOAD, "é")
_RANGES = {  # what fits into a field, by its kind in C++
    1: (-(2**31), 2**31 - 1), 2: (-(2**63), 2**63 - 1), 3: (0, 2**32 - 1), 4: (0, 2**64 - 1),
}  # fmt: skip


def messages(root: Any) -> Iterator[Any]:
    """The message and all within."""
    yield root
    for field, value in root.ListFields():
        if field.message_type is not None:
            for item in value if field.is_repeated else [value]:
                yield from messages(item)


def forge(root: Any, rng: Random, words: tuple[str, ...]) -> None:
    """Change one field somewhere; texts become `words` or what other messages hold."""
    found = list(messages(root))
    for _ in range(20):
        message = rng.choice(found)
        fields = [field for field, _ in message.ListFields()]
        if not fields or rng.random() < 0.15:
            fields = list(message.DESCRIPTOR.fields)
        if fields and _change(message, rng.choice(fields), rng, words, found):
            return


def _change(
    message: Any, field: Any, rng: Random, words: tuple[str, ...], found: list[Any]
) -> bool:
    if field.is_repeated:
        return _change_list(getattr(message, field.name), field, rng, words, found)
    if rng.random() < 0.15:
        message.ClearField(field.name)
        return True
    if field.message_type is not None:
        return _replace(getattr(message, field.name), rng, found)
    setattr(message, field.name, _value(field, rng, words, getattr(message, field.name)))
    return True


def _change_list(
    items: Any, field: Any, rng: Random, words: tuple[str, ...], found: list[Any]
) -> bool:
    how = rng.randrange(5)
    if len(items) and how == 0:
        del items[rng.randrange(len(items))]
    elif len(items) and how == 1:  # twice, or in another order
        kept = list(items)
        kept = kept + [rng.choice(kept)] if rng.random() < 0.6 else rng.sample(kept, len(kept))
        copies = (
            [type(k).FromString(k.SerializeToString()) for k in kept]
            if field.message_type
            else kept
        )
        del items[:]
        items.extend(copies)
    elif field.message_type is not None:
        if not len(items):
            items.add()
            return True
        return _replace(rng.choice(items), rng, found)
    elif len(items) and how < 4:
        k = rng.randrange(len(items))
        items[k] = _value(field, rng, words, items[k])
    else:
        items.append(_value(field, rng, words, items[0] if len(items) else None))
    return True


def _replace(message: Any, rng: Random, found: list[Any]) -> bool:
    """Put another message of the same kind in the place of one."""
    same = [m for m in found if m.DESCRIPTOR is message.DESCRIPTOR and m is not message]
    if not same:
        return False
    other = rng.choice(same)
    content = other.SerializeToString()
    if len(content) > 1 << 18:
        return False
    message.ParseFromString(content)
    return True


def _value(field: Any, rng: Random, words: tuple[str, ...], before: Any) -> Any:
    kind = field.cpp_type
    if kind in _RANGES:
        low, high = _RANGES[kind]
        near = [] if before is None else [before + 1, before - 1, before * 2]
        return min(high, max(low, rng.choice((*_WHOLE, *near))))
    if kind in (5, 6):
        return rng.choice((*_REAL, -(before or 0.0), (before or 0.0) * 1e9))
    if kind == 7:
        return not before
    if kind == 8:
        return rng.choice([value.number for value in field.enum_type.values])
    if field.type == field.TYPE_BYTES:
        data = bytes(before or b"")
        return rng.choice(
            (b"", data[:-1], data + data, rng.randbytes(len(data)), b"\xff" * len(data))
        )
    return rng.choice((*words, *words, *_TEXT))
