"""JSON from files, read with one meaning only: no key twice, no NaN, nothing nested without end."""

import json
from typing import Any

from .errors import InputError

Plain = Any  # what JSON holds: None, bool, int, float, str, list, dict
DEEPEST = 60  # levels of nesting; a stored network has about ten
_DIGITS = 400  # of a whole number


def read_plain(text: str | bytes, where: object) -> Plain:
    """What JSON says.

    Raises
    ------
    InputError
        If it is no JSON, or two readers could see two things in it; `where` names the file.
    """
    try:
        plain = json.loads(
            text, object_pairs_hook=keys_once, parse_constant=_constant, parse_int=_whole
        )
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not readable as JSON ({error}); write it again") from error
    if _depth(plain) > DEEPEST:
        raise InputError(f"{where}: nested deeper than {DEEPEST} levels; write it again")
    return plain


def keys_once(pairs: list[tuple[str, Plain]]) -> dict[str, Plain]:
    """A table of JSON, in which no key stands twice: else two readers could take another entry.

    Raises
    ------
    ValueError
        Naming the key.
    """
    table = dict(pairs)
    if len(table) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in table if names.count(name) > 1)
        raise ValueError(f"the key {twice[:40]!r} is there twice")
    return table


def _constant(name: str) -> float:
    if name == "NaN":
        raise ValueError("NaN is no number")
    return float(name)  # an end of a clip may be infinite; fields say whether theirs is


def _whole(digits: str) -> int:
    if len(digits) > _DIGITS:
        raise ValueError(f"a number has {len(digits)} digits")
    return int(digits)


def _depth(plain: Plain) -> int:
    """How deep lists and tables are nested, counted without recursion."""
    depth, level = 0, [plain]
    while level := [held for held in level if isinstance(held, dict | list)]:
        depth += 1
        level = [i for held in level for i in (held.values() if isinstance(held, dict) else held)]
    return depth
