"""Small networks for training with bounds: strides in place of pools, so that boxes stay narrow."""

from torch import nn


def bound_cnn(channels: int, side: int, width: int = 16) -> nn.Module:
    """Two convolutions of stride 2 and two linear layers for ten classes (Gowal et al., "small")."""
    return nn.Sequential(
        nn.Conv2d(channels, width, 4, 2, 1),
        nn.ReLU(),
        nn.Conv2d(width, 2 * width, 4, 2, 1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(2 * width * (side // 4) ** 2, 8 * width),
        nn.ReLU(),
        nn.Linear(8 * width, 10),
    )


def grey_bound_cnn() -> nn.Module:
    """For images of 28 x 28 pixels: MNIST, Fashion-MNIST; 210,618 parameters."""
    return bound_cnn(1, 28)


def colour_bound_cnn() -> nn.Module:
    """For images of 32 x 32 pixels in three channels: CIFAR-10."""
    return bound_cnn(3, 32)
