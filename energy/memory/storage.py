"""What a sparse matrix takes in bits, by formula: for comparisons, and before there is a matrix.

R x C = N values of b bits, nnz of them not zero, d = nnz / N (energy.md, section 1.11). The formats that
files are written in are in `spikemorph.graph.packing_codecs`, where their sizes are exact; `delta` here
is its expectation for zeros that fall independently.
"""

from dataclasses import dataclass
from math import log2


@dataclass(frozen=True)
class SparseMatrix:
    """The numbers that storage depends on.

    Parameters
    ----------
    rows, columns : int
        A convolution's weight is (out, in / groups * kernel).
    nonzero : int
        How many values are not zero.
    value_bits : int
        Bits of one value.
    """

    rows: int
    columns: int
    nonzero: int
    value_bits: int

    @property
    def size(self) -> int:
        """Values, zeros included."""
        return self.rows * self.columns

    @property
    def density(self) -> float:
        """Share of values that are not zero, 0..1; 0 where there are none."""
        return self.nonzero / self.size if self.size else 0.0

    @property
    def dense(self) -> int:
        """``N b``."""
        return self.size * self.value_bits

    @property
    def bitmask(self) -> int:
        """``N + nnz b``."""
        return self.size + self.nonzero * self.value_bits

    @property
    def coo(self) -> int:
        """``nnz (b + ceil log2 R + ceil log2 C)``."""
        return self.nonzero * (self.value_bits + ceil_log2(self.rows) + ceil_log2(self.columns))

    @property
    def csr(self) -> int:
        """``nnz (b + ceil log2 C) + (R + 1) ceil log2(nnz + 1)``."""
        starts = (self.rows + 1) * ceil_log2(self.nonzero + 1)
        return self.nonzero * (self.value_bits + ceil_log2(self.columns)) + starts

    def csr_indexed(self, index_bits: int) -> int:
        """CSR as tensor libraries keep it: every column and row start a word of `index_bits`."""
        return self.nonzero * (self.value_bits + index_bits) + (self.rows + 1) * index_bits

    @property
    def delta(self) -> float:
        """``nnz / (1 - (1 - d)^(2^k)) (b + k)`` for the best k: expected bits of k-bit gaps."""
        return min(self.delta_with(k) for k in range(1, 33))

    def delta_with(self, k: int) -> float:
        """The expected bits with gaps of k bits."""
        if not self.nonzero:
            return 0.0
        reached = 1 - (1 - self.density) ** (2**k)  # how likely a gap needs no filler
        return self.nonzero / reached * (self.value_bits + k)

    @property
    def entropy(self) -> float:
        """``N H2(d) + nnz b``: the least, on average, that tells where zeros are and then the rest."""
        d = self.density
        unsure = 0.0 if d in (0.0, 1.0) else -d * log2(d) - (1 - d) * log2(1 - d)
        return self.size * unsure + self.nonzero * self.value_bits


def ceil_log2(number: int) -> int:
    """Bits that tell so many things apart.

    >>> [ceil_log2(n) for n in (1, 2, 3, 512, 513)]
    [0, 1, 2, 9, 10]
    """
    return max(number - 1, 0).bit_length()
