"""How a setting is called where a message is read: an option of a command, a key of a recipe."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

from spikemorph.graph import InputError, SpikemorphError
from spikemorph.graph.errors import Message, Setting

from ..recipes.recipe import TABLES, NetworkChoice, Recipe

_SPELT = {  # options that are not called as the arguments are
    "exit_rule": "exit", "float_model": "model", "gate_samples": "gates", "x": "data", "images": "data",
}  # fmt: skip
_ARGUMENTS = ("network", "recipe")  # what commands take without an option before it
_KEYS = frozenset(
    field.name for kind in (Recipe, NetworkChoice, *TABLES.values()) for field in fields(kind)
)


def as_option(setting: Setting) -> str:
    """A setting as the command line spells it.

    >>> as_option(Setting("input_range", (0, 255)))
    '--input-range 0,255'
    """
    name = _SPELT.get(setting.name, setting.name).replace("_", "-")
    option = name if name in _ARGUMENTS else f"--{name}"
    value = setting.value
    if value is None or value is True:
        return option
    if isinstance(value, tuple | list):
        return f"{option} {','.join(map(_plain, value))}"
    return f"{option} {_plain(value)}"


def as_key(setting: Setting) -> str:
    """A setting as a recipe spells it; what recipes do not hold is an option of ``run``.

    >>> as_key(Setting("input_range", (0, 255)))
    'input_range = [0, 255]'
    """
    if setting.name not in _KEYS:
        return as_option(setting)
    return setting.name if setting.value is None else f"{setting.name} = {_toml(setting.value)}"


def worded(said: Exception | Message | str) -> str:
    """What is said, with settings as options."""
    if isinstance(said, SpikemorphError | Message):
        return said.worded(as_option)
    return str(said)


@contextmanager
def in_keys() -> Iterator[None]:
    """Errors in the words of a recipe."""
    try:
        yield
    except InputError as error:
        raise InputError(error.worded(as_key)) from error


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_toml, value))}]"
    return f'"{value}"' if isinstance(value, str) else _plain(value)
