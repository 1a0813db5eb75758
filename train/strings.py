"""Networks that read strings: what their training makes small, what they read, how often it is right.

At every position a network says a class or, by the class 0, nothing; what it reads is its answers,
repeated ones once, without those that say nothing (Graves and others, ICML 2006).
"""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from spikemorph.graph.errors import InputError

from .data import DataTensors
from .measure import outputs

NOTHING = 0


@dataclass(frozen=True)
class StringLoss:
    """``-log p(string)``, over all ways to say it at the positions, by its letters: what CTC learns by.

    Labels are (sample, letter); classes count from 1, and 0 stands past a string's end.
    """

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, generator: Generator) -> Tensor:
        """The mean over the batch, of logits (sample, position, class)."""
        told = F.log_softmax(model(x).float(), 2).transpose(0, 1)
        positions = torch.full((len(y),), len(told))
        letters = (y != NOTHING).sum(1)
        if int(letters.max()) > len(told):
            raise InputError(
                f"strings of {int(letters.max())} letters at {len(told)} positions: give shorter ones"
            )
        return F.ctc_loss(told, y, positions, letters, NOTHING, zero_infinity=True)


def strings_of(logits: Tensor) -> list[tuple[int, ...]]:
    """What is read of logits (sample, position, class): the classes of each string."""
    return [
        tuple(
            now
            for before, now in zip([NOTHING, *row], row, strict=False)
            if now not in (before, NOTHING)
        )
        for row in logits.argmax(2).tolist()
    ]


def share_of_strings(model: nn.Module, data: DataTensors) -> float:
    """Percentage (0..100) of samples whose whole string is read."""
    wanted = [tuple(letter for letter in row if letter != NOTHING) for row in data.y.tolist()]
    found = strings_of(outputs(model, data))
    return 100 * sum(map(tuple.__eq__, found, wanted)) / len(wanted)
