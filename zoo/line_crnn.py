"""A recurrent network that reads lines of text, of the shape that the weights of legere 0.11.0 have."""

from collections import OrderedDict

from torch import Tensor, nn

CLASSES = 122  # the blank, and 121 letters
_WIDTHS = (24, 48, 64, 96, 128, 160, 192)  # channels, from the stem on
_STRIDES = ((2, 2), (1, 1), (2, 1), (1, 1), (2, 1), (2, 1))  # (rows, columns) of each block
_HIDDEN = 128  # of each direction


class LineCRNN(nn.Module):
    """Depthwise and pointwise convolutions, a bidirectional GRU along the columns, a linear read-out.

    Images (sample, 1, 32, column) with values -1..1, paper 1, become outputs (sample, element, class):
    an element for every four columns, class 0 being the blank.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, _WIDTHS[0], 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(_WIDTHS[0]),
            nn.ReLU(),
        )
        shapes = zip(_WIDTHS, _WIDTHS[1:], _STRIDES, strict=False)
        self.blocks = nn.Sequential(*(_block(*shape) for shape in shapes))
        self.rnn = nn.GRU(_WIDTHS[-1], _HIDDEN, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * _HIDDEN, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """The outputs at every element; the convolutions leave one row."""
        columns: Tensor = self.blocks(self.stem(x)).squeeze(2).transpose(1, 2)
        outputs: Tensor = self.head(self.rnn(columns)[0])
        return outputs


def _block(inputs: int, outputs: int, stride: tuple[int, int]) -> nn.Module:
    """A convolution of each channel by itself, then one across channels."""
    depthwise = nn.Conv2d(inputs, inputs, 3, stride, padding=1, groups=inputs, bias=False)
    return nn.Sequential(
        OrderedDict[str, nn.Module](
            depthwise=depthwise,
            bn1=nn.BatchNorm2d(inputs),
            relu1=nn.ReLU(),
            pointwise=nn.Conv2d(inputs, outputs, 1, bias=False),
            bn2=nn.BatchNorm2d(outputs),
            relu2=nn.ReLU(),
        )
    )
