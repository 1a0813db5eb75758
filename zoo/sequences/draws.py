"""Whole numbers drawn by a seed, the same with every version of numpy.

Only the raw stream of a bit generator is promised to stay as it is, not what generators make of it.
"""

import numpy as np
from numpy.typing import NDArray

Whole = NDArray[np.int64]


class Draws:
    """One stream of PCG64."""

    def __init__(self, *seed: int) -> None:
        self._bits = np.random.PCG64(list(seed))

    def below(self, limit: int, *shape: int) -> Whole:
        """Numbers 0..limit-1 in an array of that shape; `limit` is at most 2**31."""
        raw = self._bits.random_raw(int(np.prod(shape, dtype=np.int64)))
        return ((raw >> 32) * np.uint64(limit) >> 32).astype(np.int64).reshape(shape)

    def between(self, low: int, high: int, *shape: int) -> Whole:
        """Numbers low..high, both among them."""
        return low + self.below(high - low + 1, *shape)

    def order(self, count: int) -> Whole:
        """0..count-1 in drawn order."""
        return np.argsort(self._bits.random_raw(count), kind="stable").astype(np.int64)
