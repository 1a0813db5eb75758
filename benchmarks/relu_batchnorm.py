"""Train a CIFAR-10 network whose batch norms stand behind its ReLUs, to convert it afterwards.

Such networks have channels of very different scales: a channel that is almost never above zero has a
tiny variance, which its batch norm makes large again.
"""

import time
from pathlib import Path
from typing import Annotated

import torch
import typer
from safetensors.torch import save_file
from torch import Tensor, nn

from spikemorph.sources.sampling import labels_of
from spikemorph.train import DataTensors, FlipAndShift, TrainSettings, fit
from spikemorph.train.loop import EpochRecord
from spikemorph.zoo import load_data

WIDTHS = ((24, 24), (48, 48), (96, 96))
HELD = 5000  # the last training images are never trained on: samples to calibrate and choose with


def network() -> nn.Sequential:
    """Two convolutions a stage, each followed by ReLU and batch norm, in this order; float32."""
    layers: list[nn.Module] = []
    channels = 3
    for stage in WIDTHS:
        for width in stage:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(width)]
            channels = width
        layers.append(nn.MaxPool2d(2))
    side = 32 >> len(WIDTHS)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * side * side, 10))


@torch.no_grad()
def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """The share of samples that `model` gets right, in %."""
    model.eval()
    right = sum(
        int((model(a).argmax(1) == b).sum())
        for a, b in zip(x.split(500), y.split(500), strict=True)
    )
    return 100 * right / len(y)


def main(
    out: Annotated[Path, typer.Option(help="Folder for the checkpoint and the weights.")],
    epochs: Annotated[int, typer.Option()] = 12,
    seed: Annotated[int, typer.Option()] = 0,
) -> None:
    """Train, or go on training, and write `weights.safetensors`."""
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    model = network()
    data = load_data("cifar10:train")
    x, y = data.values(), labels_of(data)
    held = x[-HELD:], y[-HELD:]

    def told(record: EpochRecord) -> None:
        save_file(
            {k: v.contiguous() for k, v in model.state_dict().items()}, out / "latest.safetensors"
        )
        print(
            f"{time.strftime('%H:%M:%S')} {record} held {accuracy(model, *held):.2f} %", flush=True
        )

    fit(
        model,
        DataTensors(x[:-HELD], y[:-HELD]),
        TrainSettings(epochs, seed=seed),
        augment=FlipAndShift(pixels=4),
        checkpoint=out / "checkpoint.pt",
        on_epoch=told,
    )
    save_file(
        {k: v.contiguous() for k, v in model.state_dict().items()}, out / "weights.safetensors"
    )
    test = load_data("cifar10:test")
    print(f"test {accuracy(model, test.values(), labels_of(test)):.2f} %")


if __name__ == "__main__":
    typer.run(main)
