"""Sequences of different lengths in training: each is read up to its end, with others of its length."""

import torch
from torch import Tensor, nn

from spikemorph.graph.tasks import Kind, Task
from spikemorph.train import hold_out
from spikemorph.train.data import SequenceData
from spikemorph.train.measure import score

LENGTHS = torch.tensor([2, 5, 3, 2, 5, 5, 1, 2])


def data() -> SequenceData:
    """Past its end a sample holds what would be seen."""
    there = torch.arange(5) < LENGTHS[:, None]
    number = torch.arange(1.0, 9.0)[:, None].expand(8, 5)
    x = torch.where(there, number, float("nan"))[..., None]
    return SequenceData(x, torch.arange(8), LENGTHS)


def test_a_pass_meets_every_sample_once_and_ends_with_it() -> None:
    generator = torch.Generator().manual_seed(0)
    seen = list[int]()
    for index in data().batches(2, generator):
        batch = data().rows(index)
        assert len(index) <= 2 and batch.x.shape[1] == int(LENGTHS[index][0])
        assert not bool(batch.x.isnan().any())
        seen += batch.y.tolist()
    assert sorted(seen) == list(range(8))
    other = [index.tolist() for index in data().batches(2, generator)]
    again = [index.tolist() for index in data().batches(2, torch.Generator().manual_seed(0))]
    assert sorted(sum(again, [])) == list(range(8)) and again != other


class Sum(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sum(1)


def test_what_is_given_lies_in_the_samples_order() -> None:
    wanted = (LENGTHS * torch.arange(1, 9)).float()[:, None]
    task = Task(Kind.VALUES, (1,))
    assert score(Sum(), SequenceData(data().x, wanted, LENGTHS), task, 2) == 0
    assert score(Sum(), SequenceData(data().x, wanted.flip(0), LENGTHS), task, 2) > 1


def test_lengths_are_held_out_with_their_samples_and_known_to_a_run() -> None:
    kept, held = hold_out(data(), 3, torch.Generator().manual_seed(1))
    assert isinstance(kept, SequenceData) and isinstance(held, SequenceData)
    for part in (kept, held):
        assert part.lengths.tolist() == LENGTHS[part.y].tolist()
    other = SequenceData(data().x, data().y, LENGTHS.flip(0))
    assert other.identity() != data().identity()
