"""Strings: what is read at positions, how far apart two are, and the task that counts them."""

import itertools
import math
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spikemorph.graph import InputError
from spikemorph.graph.strings import edits, filled_up, read
from spikemorph.graph.tasks import Kind, Task, task_of

LETTERS = st.lists(st.integers(0, 3), min_size=1, max_size=7)


@given(said=LETTERS)
def test_what_is_read_is_each_run_once(said: list[int]) -> None:
    runs = [b for a, b in zip([0, *said], said, strict=False) if a != b and b != 0]
    found = read(torch.tensor([said, said]))
    assert found.tolist() == [runs + [0] * (len(said) - len(runs))] * 2


@settings(deadline=None)
@given(one=LETTERS, other=LETTERS)
def test_edits_are_the_fewest(one: list[int], other: list[int]) -> None:
    a, b = ([letter for letter in text if letter] for text in (one, other))

    @cache
    def least(i: int, j: int) -> int:
        if not i or not j:
            return i + j
        change = least(i - 1, j - 1) + (a[i - 1] != b[j - 1])
        return min(change, least(i - 1, j) + 1, least(i, j - 1) + 1)

    pair = (filled_up(torch.tensor([text], dtype=torch.int64), 8) for text in (a, b))
    assert edits(*pair).tolist() == [least(len(a), len(b))]


def spoken(*strings: list[int], classes: int = 5) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.tensor(strings), classes).float()


def test_a_string_is_right_as_a_whole() -> None:
    task = task_of((6, 5), torch.zeros((2, 3), dtype=torch.int64))
    assert task == Task(Kind.STRINGS, (6, 5)) and task.classes == 5 and task.positions == ()
    outputs = spoken([1, 1, 0, 1, 2, 0], [3, 0, 0, 4, 4, 0])
    answers = task.answers(outputs[None])[0]
    assert answers.tolist() == [[1, 1, 2, 0, 0, 0], [3, 4, 0, 0, 0, 0]]
    wanted = torch.tensor([[1, 1, 2], [3, 4, 4]])
    assert task.share(answers, wanted) == 50.0
    assert task.letter_errors(answers, wanted) == pytest.approx(100 / 6)
    assert float(task.loss(20 * outputs, wanted[:, :2])) > float(task.loss(20 * outputs, answers))


def test_the_loss_is_that_of_all_ways_to_say_a_string() -> None:
    """Every row of classes at four positions is asked what it says; the loss is by letter."""
    outputs = torch.randn(2, 4, 4, generator=torch.Generator().manual_seed(0))
    likely, wanted = torch.softmax(outputs, 2), torch.tensor([[1, 1, 0], [2, 3, 1]])
    expected = 0.0
    for sample, string in enumerate([[1, 1], [2, 3, 1]]):
        ways = [
            row
            for row in itertools.product(range(4), repeat=4)
            if read(torch.tensor(row)).tolist() == string + [0] * (4 - len(string))
        ]
        total = sum(
            math.prod(float(likely[sample, n, c]) for n, c in enumerate(row)) for row in ways
        )
        expected -= math.log(total) / len(string) / 2
    found = Task(Kind.STRINGS, (4, 4)).loss(outputs, wanted)
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_strings_that_cannot_be_said_are_refused() -> None:
    task = Task(Kind.STRINGS, (4, 5))
    with pytest.raises(InputError, match="says a letter at 4 positions at most"):
        task.require(torch.ones((2, 5), dtype=torch.int64), "data")
    with pytest.raises(InputError, match="sample 1, position .2,., has label 5"):
        task.require(torch.tensor([[1, 2, 3], [1, 2, 5]]), "data")
    with pytest.raises(InputError, match="the network reads strings"):
        task.one_class("attack")
    with pytest.raises(InputError, match="position, class. is expected"):
        task_of((5,), None, said="strings")
