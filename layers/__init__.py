"""One file for each family of layers; importing this room fills the tables."""

from . import (
    activation,
    affine,
    convolution,
    joining,
    ladder,
    linear,
    narrowing,
    normalisation,
    pooling,
    readout,
    shape,
)

__all__ = [
    "activation",
    "affine",
    "convolution",
    "joining",
    "ladder",
    "linear",
    "narrowing",
    "normalisation",
    "pooling",
    "readout",
    "shape",
]
