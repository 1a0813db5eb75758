"""From real networks to integer networks: calibration, rounding, ladders."""

from .calibrators import MSE, Max, Percentile
from .integers import quantise_graph, rate_graph
from .rates import RateCoding
from .settings import Quantisation

__all__ = ["MSE", "Max", "Percentile", "Quantisation", "RateCoding", "quantise_graph", "rate_graph"]
