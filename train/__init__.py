"""One training loop; objectives, augmentations, masks and attacks plug into it."""

from .augment import FlipAndShift
from .data import DataTensors, hold_out
from .initialise import initialised
from .loop import EpochRecord, fit
from .measure import accuracy
from .objectives import CrossEntropy, Objective
from .settings import TrainSettings

__all__ = [
    "CrossEntropy",
    "DataTensors",
    "EpochRecord",
    "FlipAndShift",
    "Objective",
    "TrainSettings",
    "accuracy",
    "fit",
    "hold_out",
    "initialised",
]
