"""Data sets whose samples are sequences."""

from .mnist_1d import MNIST_1D
from .moving import MOVING_DIGITS
from .pixels import MNIST_PERMUTED, MNIST_ROWS, MNIST_SEQUENCE
from .spoken import SPOKEN_DIGITS, SPOKEN_DIGITS_STREAM
from .text_lines import TEXT_LINES
from .vowels import JAPANESE_VOWELS
from .watch import SMARTWATCH, SMARTWATCH_WHOLE

SEQUENCES = (
    *(MNIST_SEQUENCE, MNIST_PERMUTED, MNIST_ROWS, MNIST_1D, MOVING_DIGITS, TEXT_LINES),
    *(JAPANESE_VOWELS, SMARTWATCH, SMARTWATCH_WHOLE, SPOKEN_DIGITS, SPOKEN_DIGITS_STREAM),
)

__all__ = ["SEQUENCES"]
