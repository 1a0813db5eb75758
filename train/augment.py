"""Ways to vary a batch of images so that no two epochs show the same pixels."""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class FlipAndShift:
    """Mirror each image left to right with probability one half, and move it by whole pixels.

    What a shift uncovers is zero.
    """

    flip: bool = True
    pixels: int = 2

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """Vary every image of `x` (sample, channel, row, column) on its own."""
        count, _, height, width = x.shape
        moves = torch.randint(2 * self.pixels + 1, (2, count, 1), generator=generator)
        rows = moves[0] + torch.arange(height)
        columns = moves[1] + torch.arange(width)
        if self.flip:
            mirrored = torch.rand(count, 1, generator=generator) < 0.5
            columns = torch.where(mirrored, columns.flip(1), columns)
        padded = F.pad(x, (self.pixels,) * 4).movedim(1, -1)
        sample = torch.arange(count)[:, None, None]
        moved = padded[sample, rows[:, :, None], columns[:, None, :]]
        return moved.movedim(-1, 1).contiguous()
