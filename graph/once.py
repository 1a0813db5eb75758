"""Work out once what is known of a frozen value, and keep it there."""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

Frozen = TypeVar("Frozen")
Known = TypeVar("Known")


def once(function: Callable[[Frozen], Known]) -> Callable[[Frozen], Known]:
    """A function of one frozen value whose result is kept in the value, as `cached_property` does.

    What it returns must not be changed.
    """
    key = f"{function.__module__}.{function.__qualname__}"

    @wraps(function)
    def known(value: Frozen) -> Known:
        held: dict[str, Any] = vars(value)
        if key not in held:
            held[key] = function(value)
        found: Known = held[key]
        return found

    return known
