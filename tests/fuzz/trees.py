"""Forged values in trees of plain data (JSON, TOML): other types, other numbers, other places."""

import copy
import json
from collections.abc import Iterator
from random import Random
from typing import Any

from .watch import PAYLOAD

ODD: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 3, 7, 255, 2**31, 2**53, 2**63 - 1, 2**63, -(2**63), 2**64),
    *(10**30, -(10**30), 0.0, -0.0, 0.5, 1e-320, 1e-30, 1e30, 1e308),
    *(float("nan"), float("inf"), -float("inf")),
    *("", "x", "0", "nan", "1e400", "1/0", "1e999999999", "a" * 300, "\0", "é\n", "../canary.bin"),
    *(
        PAYLOAD,
        "canary.bin",
        [],
        {},
        [[]],
        [0],
        [1, 2, 3],
        {"": 0},
        [None],
        {"x": []},
        [-1],
        [2**40],
    ),
)
_DEEP = 3000  # levels: more than parsers and recursion take


def places(tree: Any) -> list[tuple[Any, Any]]:
    """Every container with every key in it."""
    return list(_places(tree))


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    stack = [tree]
    while stack:
        item = stack.pop()
        keys = (
            item if isinstance(item, dict) else range(len(item)) if isinstance(item, list) else ()
        )
        for key in keys:
            yield item, key
            stack.append(item[key])


def forged(tree: Any, rng: Random) -> Any:
    """A copy of a tree with one place changed."""
    tree = copy.deepcopy(tree)
    spots = places(tree)
    if not spots or rng.random() < 0.01:
        return rng.choice(ODD)
    holder, key = rng.choice(spots)
    how = rng.randrange(10)
    value = holder[key]
    if how <= 2:
        holder[key] = copy.deepcopy(rng.choice(ODD))
    elif how <= 4:
        holder[key] = _near(value, rng)
    elif how == 5:  # what stands elsewhere
        other, place = rng.choice(spots)
        holder[key] = copy.deepcopy(other[place])
    elif how == 6:
        del holder[key]
    elif how == 7 and isinstance(holder, dict):
        holder[rng.choice(("", "x", key + "_", *(str(k) for _, k in spots[:20])))] = value
    elif how == 7:
        holder.insert(key, copy.deepcopy(value if rng.random() < 0.7 else rng.choice(ODD)))
    elif how == 8 and isinstance(value, list):
        holder[key] = value[::-1] if rng.random() < 0.5 else value * rng.choice((0, 2, 3, 1000))
    else:
        holder[key] = [value] if rng.random() < 0.8 else _nested(rng.choice((30, 100, _DEEP)))
    return tree


def _near(value: Any, rng: Random) -> Any:
    """Another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return rng.choice((value + 1, value - 1, -value, value * 2, value * 1000, value + 2**32))
    if isinstance(value, float):
        return rng.choice(
            (-value, value * 2, value * 1e-9, value * 1e9, value + 1, 1 / (value or 1))
        )
    if isinstance(value, str):
        cut = rng.randrange(len(value) + 1)
        return rng.choice((value[:cut], value + value, value[::-1], value.upper(), " " + value))
    if isinstance(value, list):
        return rng.sample(value, len(value)) if value else [0]
    return [value]


def _nested(depth: int) -> Any:
    tree: Any = 0
    for _ in range(depth):
        tree = [tree]
    return tree


def json_of(tree: Any) -> bytes:
    """JSON text, also of trees deeper than Python recurses."""
    try:
        return json.dumps(tree).encode()
    except RecursionError:
        return b"[" * 100_000


def toml_of(tree: Any) -> bytes:
    """TOML text with inline tables; what TOML cannot say becomes a text."""
    if not isinstance(tree, dict):
        return _toml(tree).encode()
    return "".join(f"{json.dumps(str(k))} = {_toml(v)}\n" for k, v in tree.items()).encode()


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(str(k))} = {_toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        if value and isinstance(value[0], list) and len(value) == 1:
            depth = 0
            while isinstance(value, list) and len(value) == 1:
                value, depth = value[0], depth + 1
            return "[" * depth + _toml(value) + "]" * depth
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, float) and value != value:
        return "nan"
    if isinstance(value, float) and value in (float("inf"), -float("inf")):
        return "inf" if value > 0 else "-inf"
    return json.dumps("null" if value is None else value)
