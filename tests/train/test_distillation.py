"""Distillation: the loss by hand, a teacher that is left alone, and a student that follows it."""

import math

import torch
from torch import nn

from spikemorph.train import CrossEntropy, DataTensors, TrainSettings, fit
from spikemorph.train.objectives import Distillation

GENERATOR = torch.Generator().manual_seed(0)


class Fixed(nn.Module):
    """Gives the same logits for every sample."""

    def __init__(self, *logits: float) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.logits.expand(len(x), -1)


def test_the_loss_by_hand() -> None:
    """Teacher p = (3/4, 1/4), student q = (1/2, 1/2), temperature 2, share 1/4.

    At temperature 2 the teacher's logits are (2 ln 3, 0). KL = 3/4 ln(3/2) + 1/4 ln(1/2); the loss is
    3/4 ln 2 + 1/4 * 4 * KL.
    """
    teacher, student = Fixed(2 * math.log(3), 0.0), Fixed(0.0, 0.0)
    loss = Distillation(teacher, share=0.25, temperature=2.0)
    apart = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    y = torch.zeros(5, dtype=torch.int64)
    found = loss(student, torch.zeros(5, 1), y, GENERATOR).detach()
    assert abs(float(found) - (0.75 * math.log(2) + apart)) < 1e-6


def test_without_share_it_is_cross_entropy() -> None:
    student, x = Fixed(1.0, -2.0, 0.5), torch.zeros(3, 1)
    y = torch.tensor([0, 1, 2])
    plain = CrossEntropy(0.1)(student, x, y, GENERATOR)
    taught = Distillation(Fixed(5.0, 0.0, 0.0), share=0.0, smoothing=0.1)(student, x, y, GENERATOR)
    assert torch.equal(plain, taught)


def test_a_student_learns_what_the_labels_do_not_say() -> None:
    """Labels are all 0; a teacher that prefers class 1 wins with share 1, and is not changed."""
    teacher, student = Fixed(0.0, 3.0), Fixed(0.0, 0.0)
    before = teacher.logits.detach().clone()
    data = DataTensors(torch.zeros(64, 1), torch.zeros(64, dtype=torch.int64))
    settings = TrainSettings(epochs=30, batch=16, rate=0.2, decay=0.0)
    fit(student, data, settings, objective=Distillation(teacher, share=1.0))
    assert student.logits[1] - student.logits[0] > 2.5
    assert torch.equal(teacher.logits, before) and teacher.logits.grad is None
