"""Turn trained networks into certified sparse spiking networks."""

from .conversion import Conversion, convert_graph
from .evaluation import evaluate
from .models import load_graph
from .results import EvaluationResult

__all__ = ["Conversion", "EvaluationResult", "convert_graph", "evaluate", "load_graph"]
__version__ = "0.1.0"
