"""Random numbers that belong to a sample, not to the batch that it happens to be in.

An attack draws for every sample from that sample's own stream. So its result is the same whichever
samples share the batch: survivors only, shards over processes, and one sample alone all agree.
"""

import hashlib
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from spikemorph.graph.brief import brief_repr

_GOLDEN = -0x61C8864680B583EB  # 0x9E3779B97F4A7C15 as a signed number
_FIRST = -0x40A7B892E31B1A47  # 0xBF58476D1CE4E5B9
_SECOND = -0x6B2FB644ECCEEE15  # 0x94D049BB133111EB


def _shifted(z: Tensor, by: int) -> Tensor:
    """A logical shift to the right."""
    return (z >> by) & ((1 << (64 - by)) - 1)


def _mixed(z: Tensor) -> Tensor:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014, figure 14); int64 wraps."""
    z = (z ^ _shifted(z, 30)) * _FIRST
    z = (z ^ _shifted(z, 27)) * _SECOND
    return z ^ _shifted(z, 31)


@dataclass(frozen=True, eq=False)
class Draws:
    """One stream of random numbers for each sample; `seeds` is (sample,) int64.

    Nothing is used up: the same call gives the same numbers, so what must differ is forked by name.
    """

    seeds: Tensor

    __repr__ = brief_repr

    @classmethod
    def of(cls, seed: int, indices: Tensor) -> "Draws":
        """The streams of the samples with these indices in their data set."""
        return cls(_mixed(indices.to(torch.int64) * _GOLDEN + _word(str(seed))))

    def fork(self, name: str | int) -> "Draws":
        """Other streams of the same samples: one for every name."""
        return Draws(_mixed(self.seeds + _word(str(name))))

    def rows(self, chosen: Tensor) -> "Draws":
        """The streams of some of the samples: by index or by mask."""
        return Draws(self.seeds[chosen])

    def __len__(self) -> int:
        return len(self.seeds)

    def uniform(self, *shape: int) -> Tensor:
        """(sample, *shape) float32, uniform in [0, 1)."""
        return (_shifted(self._words(shape), 40).double() / 2**24).float()

    def below(self, n: int, *shape: int) -> Tensor:
        """(sample, *shape) int64, uniform in 0 .. n - 1 (to within n / 2**53)."""
        return (_shifted(self._words(shape), 11).double() / 2**53 * n).to(torch.int64)

    def signs(self, *shape: int) -> Tensor:
        """(sample, *shape) float32, -1 or 1 with equal chance."""
        return 1 - 2 * _shifted(self._words(shape), 63).float()

    def normal(self, *shape: int) -> Tensor:
        """(sample, *shape) float32, standard normal (Box and Muller, 1958)."""
        one, two = (self.fork(part)._words(shape) for part in ("normal radius", "normal angle"))
        radius = (-2 * ((_shifted(one, 11).double() + 1) / 2**53).log()).sqrt()
        return (radius * (_shifted(two, 11).double() / 2**53 * 2 * math.pi).cos()).float()

    def _words(self, shape: tuple[int, ...]) -> Tensor:
        count = math.prod(shape)
        steps = torch.arange(1, count + 1, device=self.seeds.device)
        return _mixed(self.seeds[:, None] + steps * _GOLDEN).reshape(len(self), *shape)


def _word(name: str) -> int:
    """64 signed bits of a name."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little", signed=True)
