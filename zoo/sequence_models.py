"""The networks of the zoo that read sequences, as plain torch modules that torch.export can trace."""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch._higher_order_ops.scan import scan
from torch.compiler import is_exporting
from torch.nn import functional as F

from .memories import LegendreMemory, MinGru


class LegendreNet(nn.Module):
    """A Legendre memory of one number, and two layers that read it after the last element."""

    def __init__(self, order: int, window: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.memory = LegendreMemory(order, window, bits=12)
        self.norm1 = nn.BatchNorm1d(order)
        self.linear1 = nn.Linear(order, hidden, bias=False)
        self.norm2 = nn.BatchNorm1d(hidden)
        self.relu1 = nn.ReLU()
        self.head = nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Sequences (sample, element, 1) to logits (sample, class)."""
        read = self.linear1(self.norm1(self.memory(x)))
        return self.head(self.relu1(self.norm2(read)))


class CausalConvolution(nn.Module):
    """A convolution along elements that reads none to come, `apart` from each other; norm, ReLU."""

    def __init__(
        self, inputs: int, outputs: int, size: int, apart: int = 1, stride: int = 1
    ) -> None:
        super().__init__()
        self.before = (size - 1) * apart + 1 - stride
        self.conv = nn.Conv1d(inputs, outputs, size, stride=stride, dilation=apart, bias=False)
        self.norm = nn.BatchNorm1d(outputs)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """(sample, inputs, element) to (sample, outputs, element / stride)."""
        return self.relu(self.norm(self.conv(F.pad(x, (self.before, 0)))))


class RecurrentNet(nn.Module):
    """Recurrent layers, and a linear layer that reads the last one after the last element.

    A `front` of convolutions may read the elements first.
    """

    def __init__(
        self, layers: nn.Module, states: int, classes: int, front: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.front = front
        self.layers = layers
        self.head = nn.Linear(states, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Sequences (sample, element, feature) to logits (sample, class)."""
        if self.front is not None:
            x = self.front(x.transpose(1, 2)).transpose(1, 2)
        made = self.layers(x)
        return self.head((made[0] if isinstance(made, tuple) else made)[:, -1])


class LinesNet(nn.Module):
    """Convolutions over an image of a line of text, and a GRU both ways along its columns.

    Every fourth column of the image is a position, which has a logit for each class and one, the first,
    for none: what CTC (Graves and others, ICML 2006) reads.
    """

    def __init__(
        self, height: int, widths: tuple[int, int, int], states: int, classes: int
    ) -> None:
        super().__init__()
        first, second, third = widths
        self.convs = nn.Sequential(
            OrderedDict(
                conv1=nn.Conv2d(1, first, 3, padding=1, bias=False), norm1=nn.BatchNorm2d(first),
                relu1=nn.ReLU(), pool1=nn.MaxPool2d(2),
                conv2=nn.Conv2d(first, second, 3, padding=1, bias=False),
                norm2=nn.BatchNorm2d(second), relu2=nn.ReLU(), pool2=nn.MaxPool2d(2),
                conv3=nn.Conv2d(second, third, 3, padding=1, bias=False),
                norm3=nn.BatchNorm2d(third), relu3=nn.ReLU(), pool3=nn.MaxPool2d((2, 1)),
            )
        )  # fmt: skip
        self.columns = nn.Flatten(1, 2)
        self.layers = nn.GRU(third * (height // 8), states, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * states, classes + 1)

    def forward(self, x: Tensor) -> Tensor:
        """Images (sample, 1, H, W) to logits (sample, W / 4, 1 + class)."""
        columns = self.columns(self.convs(x)).transpose(1, 2)
        return self.head(self.layers(columns)[0])


class FramesNet(nn.Module):
    """Convolutions over every frame of a video and a state of what was seen, in one body.

    What a frame has in common with the one before is the same at every layer, so a stream that is sent
    changes alone computes only where something moves.
    """

    def __init__(self, side: int, widths: tuple[int, int, int], states: int, classes: int) -> None:
        super().__init__()
        first, second, third = widths
        self.convs = nn.Sequential(
            OrderedDict(
                conv1=nn.Conv2d(1, first, 3, stride=2, padding=1), relu1=nn.ReLU(),
                conv2=nn.Conv2d(first, second, 3, stride=2, padding=1), relu2=nn.ReLU(),
                conv3=nn.Conv2d(second, third, 3, stride=2, padding=1), relu3=nn.ReLU(),
                flat=nn.Flatten(),
            )
        )  # fmt: skip
        self.states = states
        self.seen = nn.Linear(third * (side // 8) ** 2, states)
        self.kept = nn.Linear(states, states, bias=False)
        self.head = nn.Linear(states, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Videos (sample, frame, 1, H, W) to logits (sample, class) after the last frame."""
        state = torch.zeros(len(x), self.states).to(x)
        if is_exporting():
            return self.head(scan(self._step, state, x, dim=1)[1][:, -1])
        for frame in x.unbind(1):
            state, _ = self._step(state, frame)
        return self.head(state)

    def _step(self, state: Tensor, frame: Tensor) -> tuple[Tensor, Tensor]:
        after = torch.tanh(self.seen(self.convs(frame)) + self.kept(state))
        return after, after.clone()


def mnist_permuted_lmu() -> nn.Module:
    """A Legendre memory of order 256 over 784 pixels in one fixed, drawn order."""
    return LegendreNet(256, 784, 400, 10)


def mnist_sequence_crnn() -> nn.Module:
    """Causal convolutions along the stream of pixels, and a GRU that steps once a row of the image.

    The first reads 61 pixels, two rows and five, at every fourth; the second its outputs in three rows
    at the same column; the third the seven of a row.
    """
    front = nn.Sequential(
        OrderedDict(
            layer1=CausalConvolution(1, 32, 61, stride=4),
            layer2=CausalConvolution(32, 64, 3, apart=7),
            layer3=CausalConvolution(64, 96, 7, stride=7),
        )
    )
    return RecurrentNet(nn.GRU(96, 128, batch_first=True), 128, 10, front)


def mnist_rows_gru() -> nn.Module:
    """A GRU over the rows of an image."""
    return RecurrentNet(nn.GRU(28, 128, batch_first=True), 128, 10)


def mnist_rows_min_gru() -> nn.Module:
    """Two minimal GRUs over the rows of an image, whose gates do not read their states."""
    layers = nn.Sequential(OrderedDict(first=MinGru(28, 128), second=MinGru(128, 128)))
    return RecurrentNet(layers, 128, 10)


def vowels_gru() -> nn.Module:
    """A GRU over 12 cepstral coefficients of a spoken vowel, for nine speakers."""
    return RecurrentNet(nn.GRU(12, 64, batch_first=True), 64, 9)


def vowels_lstm() -> nn.Module:
    """An LSTM over 12 cepstral coefficients of a spoken vowel, for nine speakers."""
    return RecurrentNet(nn.LSTM(12, 64, batch_first=True), 64, 9)


def watch_gru() -> nn.Module:
    """A GRU over two seconds of a wrist's motion, for seven exercises."""
    return RecurrentNet(nn.GRU(6, 64, batch_first=True), 64, 7)


def watch_lstm() -> nn.Module:
    """An LSTM over two seconds of a wrist's motion, for seven exercises."""
    return RecurrentNet(nn.LSTM(6, 64, batch_first=True), 64, 7)


def lines_crnn() -> nn.Module:
    """Three convolutions (8, 16, 32 wide) and a GRU of 64 states each way, for lines of 32 rows."""
    return LinesNet(32, (8, 16, 32), 64, 121)


def moving_digits_rnn() -> nn.Module:
    """Three convolutions (8, 16, 32 wide) over frames of 48 by 48, and 64 states."""
    return FramesNet(48, (8, 16, 32), 64, 10)


SEQUENCE_MODELS: Mapping[str, Callable[[], nn.Module]] = MappingProxyType(
    {
        build.__name__: build
        for build in (
            mnist_permuted_lmu,
            mnist_sequence_crnn,
            mnist_rows_gru,
            vowels_gru,
            vowels_lstm,
            watch_gru,
            watch_lstm,
            lines_crnn,
        )
    }
)
"""Those that are shipped with weights."""
