"""Turn trained networks into certified sparse spiking networks.

What is public is loaded when it is first asked for, so that the command line can listen to Ctrl-C
before torch is there.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spikemorph.graph import InputError, SpikemorphError, UnsupportedError

    from .conversion import convert_graph
    from .front.entry import inspect, prune, to_snn
    from .front.snn import SNN, load
    from .sources.models import load_graph

__all__ = [
    "SNN",
    "InputError",
    "SpikemorphError",
    "UnsupportedError",
    "convert_graph",
    "inspect",
    "load",
    "load_graph",
    "prune",
    "to_snn",
]
__version__ = "0.1.0"

_HOMES = {
    "SNN": "front.snn",
    "InputError": "graph",
    "SpikemorphError": "graph",
    "UnsupportedError": "graph",
    "convert_graph": "conversion",
    "inspect": "front.entry",
    "load": "front.snn",
    "load_graph": "sources.models",
    "prune": "front.entry",
    "to_snn": "front.entry",
}


class _Room(ModuleType):
    """A room that has the name of a function and is called like it: `spikemorph.prune`."""

    def __call__(self, *arguments: Any, **options: Any) -> object:
        return _public(self.__name__.rpartition(".")[2])(*arguments, **options)


class _Package(ModuleType):
    """This package, which import tells of every room that is loaded."""

    def __setattr__(self, name: str, value: object) -> None:
        if name in _HOMES and type(value) is ModuleType:
            value.__class__ = _Room
        super().__setattr__(name, value)


def _public(name: str) -> Any:
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


if not TYPE_CHECKING:  # so that types are known of these names alone
    sys.modules[__name__].__class__ = _Package

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return _public(name)
