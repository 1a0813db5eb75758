"""Float spiking networks trained through time: surrogate gradients, threshold calibration, folding."""

from .folded_network import DeployedNetwork, run_deployed
from .folding import fold
from .gradients import Backward, PiecewiseLinear
from .module import SpikingModule
from .neuron import Dynamics
from .thresholds import Calibration
from .to_trainable import to_trainable

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
