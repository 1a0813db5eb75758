"""Laws of networks that read strings."""

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from spikemorph.graph.errors import InputError
from spikemorph.train import DataTensors
from spikemorph.train.strings import StringLoss, share_of_strings, strings_of


class Told(nn.Module):
    """A network that says what it is given."""

    def forward(self, x: Tensor) -> Tensor:
        return x


def said(*rows: str) -> Tensor:
    """Logits of which the largest are these classes, one digit a position."""
    return nn.functional.one_hot(torch.tensor([[int(c) for c in row] for row in rows]), 4).float()


def test_a_string_is_the_answers_once_each_without_nothing() -> None:
    found = strings_of(said("0110", "1011", "2233", "0000", "1203"))
    assert found == [(1,), (1, 1), (2, 3), (), (1, 2, 3)]


def test_a_share_counts_whole_strings() -> None:
    x = said("0110", "1011", "2233", "1203")
    y = torch.tensor([[1, 0, 0], [1, 1, 0], [2, 3, 3], [1, 2, 3]])
    assert share_of_strings(Told(), DataTensors(x, y)) == 75.0


def test_the_loss_is_that_of_all_ways_to_say_a_string() -> None:
    """Every row of answers at four positions is asked what it reads; per letter, as CTC has it."""
    x = torch.randn(2, 4, 4, generator=torch.Generator().manual_seed(0))
    y = torch.tensor([[1, 1, 0], [2, 3, 1]])
    likely = torch.softmax(x, 2)
    expected = 0.0
    for sample, string in enumerate([(1, 1), (2, 3, 1)]):
        total = 0.0
        for row in itertools.product(range(4), repeat=4):
            if strings_of(said("".join(map(str, row)))) == [string]:
                total += math.prod(float(likely[sample, n, c]) for n, c in enumerate(row))
        expected -= math.log(total) / len(string) / 2
    found = StringLoss()(Told(), x, y, torch.Generator())
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_strings_longer_than_there_are_positions_are_refused() -> None:
    with pytest.raises(InputError, match="5 letters at 4 positions"):
        StringLoss()(Told(), said("0000"), torch.ones(1, 5, dtype=torch.int64), torch.Generator())
