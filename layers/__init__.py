"""One file for each family of layers; importing this room fills the tables."""

from . import (  # noqa: F401  imported for the rows they enter
    activation,
    affine,
    convolution,
    enclosures,
    joining,
    ladder,
    linear,
    moving,
    multiply,
    normalisation,
    pooling,
    readout,
    recurrent,
    scan,
    shape,
    slicing,
)
from .activation import Clip, LeakyReLU, ReLU, Sigmoid, Tanh
from .affine import ScaleShift
from .convolution import Convolution
from .joining import Add, Concat
from .ladder import Ladder
from .linear import Linear
from .normalisation import BatchNorm
from .pooling import AveragePool, GlobalAverage, GlobalMax, MaxPool, SumPool
from .readout import Readout, Softmax
from .shape import Identity, Pad, Reshape, Transpose
from .slicing import Narrow

__all__ = [
    "Add",
    "AveragePool",
    "BatchNorm",
    "Clip",
    "Concat",
    "Convolution",
    "GlobalAverage",
    "GlobalMax",
    "Identity",
    "Ladder",
    "LeakyReLU",
    "Linear",
    "MaxPool",
    "Pad",
    "ReLU",
    "Readout",
    "Reshape",
    "ScaleShift",
    "Sigmoid",
    "Narrow",
    "Softmax",
    "SumPool",
    "Tanh",
    "Transpose",
]
