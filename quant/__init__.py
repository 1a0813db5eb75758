"""From real networks to integer networks: calibration, rounding, ladders."""

from .calibrators import MSE, Max, Percentile
from .integers import quantise_graph, rate_graph
from .learning import QuantisedModule, learn_quantised
from .rates import RateCoding
from .settings import Quantisation
from .twin import IntegerTwin

__all__ = [
    "MSE",
    "IntegerTwin",
    "Max",
    "Percentile",
    "Quantisation",
    "QuantisedModule",
    "RateCoding",
    "learn_quantised",
    "quantise_graph",
    "rate_graph",
]
