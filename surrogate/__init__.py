"""Float spiking networks trained through time: surrogate gradients, threshold calibration, folding."""

from .deployed import DeployedNetwork, run_deployed
from .folding import fold
from .gradients import Backward, PiecewiseLinear
from .module import SpikingModule
from .neuron import Dynamics
from .road import to_trainable
from .thresholds import Calibration

__all__ = [
    "Backward",
    "Calibration",
    "DeployedNetwork",
    "Dynamics",
    "PiecewiseLinear",
    "SpikingModule",
    "fold",
    "run_deployed",
    "to_trainable",
]
