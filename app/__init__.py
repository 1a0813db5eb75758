"""Turn trained networks into certified sparse spiking networks."""

from spikemorph.convert import certify, to_spiking

from .conversion import Conversion, convert_graph
from .evaluation import evaluate
from .models import load_graph
from .results import EvaluationResult

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
