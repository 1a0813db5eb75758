"""One file for each family of layers; importing this room fills the tables."""

from . import (  # noqa: F401  imported for the rows they enter
    activation,
    affine,
    convolution,
    joining,
    ladder,
    linear,
    moving,
    normalisation,
    pooling,
    readout,
    shape,
    slicing,
)
