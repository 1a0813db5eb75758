"""The command line within this process, without building it anew every time."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import typer

from spikemorph.cli import program

_COMMAND: Any = typer.main.get_command(program.program)


def call(*words: object) -> int:
    """Run a command; its exit status."""
    with _replaced(sys, "argv", ["spikemorph", *map(str, words)]), _kept():
        return program.main()


@contextmanager
def _kept() -> Iterator[None]:
    def run(words: list[str], **options: Any) -> Any:
        return _COMMAND(words, **options)

    with _replaced(program, "program", run):
        yield


@contextmanager
def _replaced(holder: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(holder, name)
    setattr(holder, name, value)
    try:
        yield
    finally:
        setattr(holder, name, before)


def replaced(holder: Any, name: str, value: Any, act: Callable[[], int]) -> int:
    """What `act` gives while an attribute has another value."""
    with _replaced(holder, name, value):
        return act()
