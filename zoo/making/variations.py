"""Ways to vary sequences: those that were made of images, and measured ones."""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from spikemorph.train import FlipAndShift

from ..sequences.pixels import permutation


@dataclass(frozen=True)
class ShiftedPixels:
    """Move the square image of which a sequence has the pixels, by whole pixels, in its own order.

    That is row by row, or the order of `mnist-permuted`.
    """

    pixels: int
    permuted: bool = False

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """Vary every sequence (sample, element, feature) on its own."""
        side = round((x.shape[1] * x.shape[2]) ** 0.5)
        order = permutation() if self.permuted else torch.arange(x.shape[1])
        images = x[:, torch.argsort(order)].reshape(-1, 1, side, side)
        moved = FlipAndShift(flip=False, pixels=self.pixels)(images, generator)
        return moved.reshape(x.shape)[:, order]


@dataclass(frozen=True)
class Noise:
    """Add a normal number to every number, but where an element is all zero: past a sequence's end."""

    deviation: float

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """Vary every sequence (sample, element, feature) on its own."""
        drawn = self.deviation * torch.randn(x.shape, generator=generator)
        return x + drawn * (x != 0).any(2, keepdim=True)
