"""The networks of the zoo, as plain torch modules that torch.export can trace."""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from types import MappingProxyType

from torch import Tensor, nn

from .bound_cnn import colour_bound_cnn, grey_bound_cnn
from .sequence_models import SEQUENCE_MODELS, mnist_rows_min_gru


def _convolution(inputs: int, outputs: int, size: int = 3, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, stride=stride, padding=size // 2, bias=False)


def _unit(index: int, inputs: int, outputs: int) -> list[tuple[str, nn.Module]]:
    """Convolution, batch norm, ReLU: the layers `conv1`, `norm1`, `relu1` for index 1."""
    return [
        (f"conv{index}", _convolution(inputs, outputs)),
        (f"norm{index}", nn.BatchNorm2d(outputs)),
        (f"relu{index}", nn.ReLU()),
    ]


class BasicBlock(nn.Module):
    """y = relu(norm2(conv2(relu(norm1(conv1(x))))) + shortcut(x)).

    The shortcut is the identity, or a 1x1 convolution with batch norm where the shape changes.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = _convolution(inputs, outputs, stride=stride)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.relu1 = nn.ReLU()
        self.conv2 = _convolution(outputs, outputs)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            projection = _convolution(inputs, outputs, size=1, stride=stride)
            self.shortcut = nn.Sequential(
                OrderedDict(conv=projection, norm=nn.BatchNorm2d(outputs))
            )
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Images (sample, inputs, H, W) to (sample, outputs, H / stride, W / stride)."""
        inner = self.relu1(self.norm1(self.conv1(x)))
        return self.relu2(self.norm2(self.conv2(inner)) + self.shortcut(x))


class ResidualNet(nn.Module):
    """A convolution, one basic block per width (all but the first halve the image), an average.

    With `pooled`, a max pool behind the first convolution halves the image once more.
    """

    def __init__(self, widths: tuple[int, ...], classes: int, pooled: bool = False) -> None:
        super().__init__()
        stem = _unit(1, 1, widths[0])
        if pooled:
            stem.append(("pool1", nn.MaxPool2d(2)))
        self.stem = nn.Sequential(OrderedDict(stem))
        before = (widths[0], *widths)
        self.blocks = nn.Sequential(
            OrderedDict(
                (f"block{i + 1}", BasicBlock(before[i], width, stride=1 if i == 0 else 2))
                for i, width in enumerate(widths)
            )
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images (sample, 1, H, W) to logits (sample, class)."""
        return self.head(self.flatten(self.pool(self.blocks(self.stem(x)))))


def digits_mlp() -> nn.Module:
    """Three linear layers for 8x8 digits: 64, 64, 32, 10."""
    return nn.Sequential(
        OrderedDict(
            flatten=nn.Flatten(),
            linear1=nn.Linear(64, 64),
            relu1=nn.ReLU(),
            linear2=nn.Linear(64, 32),
            relu2=nn.ReLU(),
            head=nn.Linear(32, 10),
        )
    )


def digits_cnn() -> nn.Module:
    """Three convolutions with batch norm and two max pools for 8x8 digits."""
    layers: list[tuple[str, nn.Module]] = [
        *_unit(1, 1, 16),
        *_unit(2, 16, 24),
        ("pool2", nn.MaxPool2d(2)),
        *_unit(3, 24, 32),
        ("pool3", nn.MaxPool2d(2)),
        ("flatten", nn.Flatten()),
        ("head", nn.Linear(32 * 2 * 2, 10)),
    ]
    return nn.Sequential(OrderedDict(layers))


def digits_resnet() -> nn.Module:
    """Two basic blocks and a global average pool for 8x8 digits."""
    return ResidualNet(widths=(16, 32), classes=10)


def fashion_vgg() -> nn.Module:
    """Three pairs of convolutions (24, 48, 96 wide) with max pools for 28x28 images."""
    layers: list[tuple[str, nn.Module]] = []
    inputs = 1
    for stage, width in enumerate((24, 48, 96)):
        layers += _unit(2 * stage + 1, inputs, width)
        layers += _unit(2 * stage + 2, width, width)
        layers.append((f"pool{stage + 1}", nn.MaxPool2d(2)))
        inputs = width
    layers += [
        ("flatten", nn.Flatten()),
        ("linear7", nn.Linear(96 * 3 * 3, 128)),
        ("relu7", nn.ReLU()),
        ("head", nn.Linear(128, 10)),
    ]
    return nn.Sequential(OrderedDict(layers))


def fashion_resnet() -> nn.Module:
    """Three basic blocks (16, 32, 64 wide) and a global average pool for 28x28 images."""
    return ResidualNet(widths=(16, 32, 64), classes=10)


def fashion_wide_resnet() -> nn.Module:
    """Three basic blocks (48, 96, 192 wide) behind a max pool: enough weights to prune 99 %."""
    return ResidualNet(widths=(48, 96, 192), classes=10, pooled=True)


def fashion_cnn() -> nn.Module:
    """Three convolutions (32, 64, 128 wide), each with a max pool, and a hidden linear layer."""
    layers: list[tuple[str, nn.Module]] = []
    inputs = 1
    for index, width in enumerate((32, 64, 128), start=1):
        layers += [*_unit(index, inputs, width), (f"pool{index}", nn.MaxPool2d(2))]
        inputs = width
    layers += [
        ("flatten", nn.Flatten()),
        ("linear4", nn.Linear(128 * 3 * 3, 256)),
        ("relu4", nn.ReLU()),
        ("head", nn.Linear(256, 10)),
    ]
    return nn.Sequential(OrderedDict(layers))


def cifar_vgg() -> nn.Module:
    """Six convolutions (64 to 256 wide) with max pools for 32x32 colour images, halved early."""
    layers = _unit(1, 3, 64)
    layers += [("pool1", nn.MaxPool2d(2)), *_unit(2, 64, 128), *_unit(3, 128, 128)]
    layers += [("pool2", nn.MaxPool2d(2)), *_unit(4, 128, 256), *_unit(5, 256, 256)]
    layers += [("pool3", nn.MaxPool2d(2)), *_unit(6, 256, 256), ("pool4", nn.MaxPool2d(2))]
    layers += [("flatten", nn.Flatten()), ("head", nn.Linear(256 * 2 * 2, 10))]
    return nn.Sequential(OrderedDict(layers))


def cifar_vgg16() -> nn.Module:
    """VGG-16 for 32x32 colour images as HYDRA prunes it (Sehwag et al., NeurIPS 2020; `vgg16_bn`).

    Thirteen convolutions (64 to 512 wide), four pools, so that the last maps are 2x2, and linear layers
    2048, 256, 256, 10: 15,302,848 weights and 276,992 neurons. Pools are averages, as in the spiking
    networks of Schmolli et al. (CPAL 2025).
    """
    layers: list[tuple[str, nn.Module]] = []
    index, inputs = 0, 3
    for stage, widths in enumerate(((64,) * 2, (128,) * 2, (256,) * 3, (512,) * 3, (512,) * 3)):
        if stage:
            layers.append((f"pool{stage}", nn.AvgPool2d(2)))
        for width in widths:
            index += 1
            layers += _unit(index, inputs, width)
            inputs = width
    layers += [
        ("flatten", nn.Flatten()),
        ("linear14", nn.Linear(512 * 2 * 2, 256)),
        ("relu14", nn.ReLU()),
        ("linear15", nn.Linear(256, 256)),
        ("relu15", nn.ReLU()),
        ("head", nn.Linear(256, 10)),
    ]
    return nn.Sequential(OrderedDict(layers))


ARCHITECTURES: Mapping[str, Callable[[], nn.Module]] = MappingProxyType(
    {
        **{
            build.__name__: build
            for build in (
                digits_mlp,
                digits_cnn,
                digits_resnet,
                fashion_cnn,
                fashion_vgg,
                fashion_resnet,
                fashion_wide_resnet,
                cifar_vgg,
            )
        },
        **SEQUENCE_MODELS,
    }
)
"""The networks that are shipped with weights."""

UNTRAINED: Mapping[str, Callable[[], nn.Module]] = MappingProxyType(
    {
        build.__name__: build
        for build in (cifar_vgg16, mnist_rows_min_gru, grey_bound_cnn, colour_bound_cnn)
    }
)
"""Networks without shipped weights: recipes name them, and train them from new weights."""
