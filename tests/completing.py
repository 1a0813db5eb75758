"""Reports in short: parts of a run with what a test cares about, pages as their readers have them."""

import re
from collections.abc import Mapping
from html import unescape
from typing import Any

from spikemorph.report.record import PARTS
from spikemorph.report.shapes import Items, Kind, ListOf, MapOf, Maybe, Shape


def words_of(page: str) -> str:
    """A page's text, as a reader has it: without tags, nothing escaped."""
    return unescape(re.sub(r"<[^>]*>", "", page))


def complete(part: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """A part of a run with every key that it must have: none, nothing or zero where none is given."""
    found: dict[str, Any] = _whole(PARTS[part], given)
    return found


def _whole(shape: Shape, given: Any) -> Any:
    if isinstance(shape, Maybe):
        return None if given is None else _whole(shape.shape, given)
    if isinstance(shape, ListOf):
        return [_whole(shape.shape, item) for item in given or ()]
    if isinstance(shape, Kind | MapOf | Items):
        return given
    needed = {key: own for key, own in shape.items() if not key.endswith("?")}
    held = given or {}
    rest = {key: _rest(own) for key, own in needed.items() if key not in held}
    own = {key: _whole(shape.get(key, shape.get(f"{key}?", _ANY)), v) for key, v in held.items()}
    return rest | own


def _rest(shape: Shape) -> Any:
    if isinstance(shape, Kind):
        return next(value for value in ("", 0, False) if shape.holds(value))
    if isinstance(shape, MapOf):
        return {}
    return _whole(shape, None)


_ANY = Kind("anything", lambda v: True)
