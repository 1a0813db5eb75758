"""Float spiking networks trained through time: surrogate gradients, threshold calibration, folding."""

from .gradients import Backward, PiecewiseLinear
from .module import SpikingModule
from .neuron import Dynamics

__all__ = ["Backward", "Dynamics", "PiecewiseLinear", "SpikingModule"]
