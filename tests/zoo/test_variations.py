"""Laws of what varies sequences that were made of images, and other ones."""

import pytest
import torch

from spikemorph.train import FlipAndShift
from spikemorph.zoo.making.variations import Noise, ShiftedPixels
from spikemorph.zoo.sequences.pixels import permutation


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(3)


@pytest.mark.parametrize("kind", ["by pixel", "permuted", "by row"])
def test_pixels_are_moved_in_the_image_whatever_their_order(kind: str) -> None:
    """What comes out is the sequence of the image that was moved, with the same draws."""
    images = torch.rand(5, 1, 28, 28, generator=seeded())

    def sequences(of: torch.Tensor) -> torch.Tensor:
        flat = of.reshape(5, 784, 1)
        if kind == "by row":
            return of.reshape(5, 28, 28)
        return flat[:, permutation()] if kind == "permuted" else flat

    moved = FlipAndShift(flip=False, pixels=2)(images, seeded())
    found = ShiftedPixels(2, permuted=kind == "permuted")(sequences(images), seeded())
    assert torch.equal(found, sequences(moved))
    assert not torch.equal(moved, images)


def test_noise_stops_where_a_sequence_does() -> None:
    x = torch.ones(400, 6, 5)
    x[:, 4:], x[:, :, 0] = 0, 0
    added = Noise(0.3)(x, seeded()) - x
    assert not added[:, 4:].any() and bool(added[:, :4].all())
    assert float(added[:, :4].std()) == pytest.approx(0.3, rel=0.05)
