"""One training loop; objectives, augmentations, companions and attacks plug into it."""

from .augment import FlipAndShift
from .data import DataTensors, hold_out
from .graph_module import GraphModule
from .initialise import initialised
from .loop import fit
from .measure import accuracy
from .objectives import CrossEntropy, Objective
from .settings import TrainSettings

__all__ = [
    "CrossEntropy",
    "DataTensors",
    "FlipAndShift",
    "GraphModule",
    "Objective",
    "TrainSettings",
    "accuracy",
    "fit",
    "hold_out",
    "initialised",
]
