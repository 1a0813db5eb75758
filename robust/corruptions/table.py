"""The common corruptions by name, and what their rows share."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from torch import Tensor

from spikemorph.graph.tables import Table

from ..draws import Draws

SEVERITIES = (1, 2, 3, 4, 5)
_SIDE = 32  # of the images that the published parameters are for

# Key: the corruption's name. Row: (sample, C, H, W) images in [0, 1] with C 1 or 3, a severity
# from 1 to 5, and draws -> images; `corrupt` clips them. Rows of one sample with one stream differ
# only in severity: the noise is the same, and there is more of it.
corruptions: Table[Callable[[Tensor, int, Draws], Tensor]] = Table("corruptions")

Row = TypeVar("Row")


def at(severity: int, rows: Sequence[Row]) -> Row:
    """The parameters of this severity."""
    return rows[severity - 1]


def scale_of(x: Tensor) -> float:
    """By how much a length in pixels of 32 x 32 images grows; smaller images are not spared."""
    return max(1.0, min(x.shape[2:]) / _SIDE)
