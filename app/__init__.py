"""Turn trained networks into certified sparse spiking networks.

What is public is loaded when it is first asked for, so that the command line can listen to Ctrl-C
before torch is there.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spikemorph.convert import certify, to_spiking

    from .conversion import Conversion, convert_graph
    from .measures.evaluation import evaluate
    from .measures.results import EvaluationResult
    from .sources.models import load_graph

__all__ = [
    "Conversion",
    "EvaluationResult",
    "certify",
    "convert_graph",
    "evaluate",
    "load_graph",
    "to_spiking",
]
__version__ = "0.1.0"

_HOMES = {
    "Conversion": "conversion",
    "EvaluationResult": "measures.results",
    "certify": "convert",
    "convert_graph": "conversion",
    "evaluate": "measures.evaluation",
    "load_graph": "sources.models",
    "to_spiking": "convert",
}


if not TYPE_CHECKING:  # so that types are known of these names alone

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
