"""Samples of any rank, seen as images: channel, row, column."""

import math
from collections.abc import Sequence

from torch import Tensor


def image_shape(shape: Sequence[int]) -> tuple[int, int, int]:
    """The (C, H, W) that a sample of this shape is seen as.

    The last two axes stay rows and columns; all axes before them, such as time steps, count as
    channels. A flat sample is one row.

    Examples
    --------
    >>> image_shape((4, 2, 8, 8)), image_shape((10,))
    ((8, 8, 8), (1, 1, 10))
    """
    rows, columns = (1, *shape)[-2:] if shape else (1, 1)
    return math.prod(shape[:-2]), rows, columns


def as_images(x: Tensor) -> Tensor:
    """(sample, C, H, W): the same numbers in the same order."""
    return x.reshape(len(x), *image_shape(x.shape[1:])).contiguous()
