"""A small convolutional network for 8x8 digits, and its training: your own model takes its place."""

import torch
from torch import Tensor, nn

from spikemorph.zoo import load_data


class DigitsNet(nn.Module):
    """Two convolutions, each with batch norm, ReLU and max-pooling; then one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.conv2, self.norm2 = nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32)
        self.pool, self.head = nn.MaxPool2d(2), nn.Linear(32 * 2 * 2, 10)

    def forward(self, x: Tensor) -> Tensor:
        """(sample, 1, 8, 8) images in 0..1 to (sample, 10) logits."""
        x = self.pool(self.norm1(self.conv1(x)).relu())
        x = self.pool(self.norm2(self.conv2(x)).relu())
        logits: Tensor = self.head(x.flatten(1))
        return logits


def digits(split: str) -> tuple[Tensor, Tensor]:
    """(sample, 1, 8, 8) images in 0..1 and their labels; "train" has 1437, "test" 360."""
    data = load_data(f"digits:{split}")
    assert data.y is not None
    return data.values(), data.y


def trained(epochs: int = 10) -> DigitsNet:
    """The network, trained with plain torch for some seconds."""
    torch.manual_seed(0)
    model, (x, y) = DigitsNet(), digits("train")
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(epochs):
        for batch in torch.randperm(len(x)).split(64):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
            optimiser.step()
    return model.eval()
