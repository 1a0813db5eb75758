"""Early exits by hand: confidence, the first confident step, and what conformal risk control allows."""

from math import log

import pytest
import torch
from torch import Tensor

from spikemorph.graph import InputError
from spikemorph.spiking.exits import NEVER, confidence, conformal_threshold, exit_steps


def logits(*confidences: tuple[float, int]) -> Tensor:
    """(sample, class) of two classes: each sample's confidence and which class has it."""
    return torch.tensor([[log(p / (1 - p)) * (c == k) for k in (0, 1)] for p, c in confidences])


def test_confidence_is_the_largest_share_of_a_softmax_over_classes() -> None:
    """Three samples, two classes: ``softmax(log 3, 0) = 3/4, 1/4``."""
    outputs = torch.tensor([[[log(3), 0.0], [0.0, log(9)], [1.0, 1.0]]])
    assert confidence(outputs).tolist() == [pytest.approx([0.75, 0.9, 0.5])]


def test_a_threshold_that_is_met_exactly_is_met() -> None:
    known = torch.tensor([[0.25, 0.5], [0.5, 0.75]])
    assert exit_steps(known, 0.5).tolist() == [2, 1]


@pytest.fixture
def early() -> Tensor:
    """Four samples that end in class 0; at step 1 the second and the third are wrong."""
    first = logits((0.9005, 0), (0.8005, 1), (0.7005, 1), (0.6005, 0))
    return torch.stack([first, logits(*[(0.9, 0)] * 4)])


@pytest.mark.parametrize(
    ("alpha", "threshold"),
    [
        pytest.param(0.2, 0.801, id="(0+1)/5 allowed, (1+1)/5 not"),
        pytest.param(0.399, 0.801, id="just below (1+1)/5"),
        pytest.param(0.4, 0.701, id="(1+1)/5 allowed, (2+1)/5 not"),
        pytest.param(0.599, 0.701, id="just below (2+1)/5"),
        pytest.param(0.6, 0.0, id="(2+1)/5 allowed: all may leave at once"),
    ],
)
def test_conformal_risk_control_by_hand(early: Tensor, alpha: float, threshold: float) -> None:
    """``(n R + 1) / (n + 1) <= alpha``, at both sides of each border; thresholds go by thousandths."""
    assert conformal_threshold(early, alpha) == pytest.approx(threshold, abs=1e-6)


def test_where_full_confidence_is_wrong_nothing_leaves_early() -> None:
    """A softmax that saturates reaches a threshold of 1: no number between 0 and 1 is high enough."""
    outputs = torch.tensor([[[99.0, 0.0]] * 4, [[0.0, 9.0]] * 4])
    threshold = conformal_threshold(outputs, 0.5)
    assert threshold == NEVER
    assert exit_steps(confidence(outputs), threshold).tolist() == [2] * 4


@pytest.mark.parametrize(
    ("alpha", "least"), [(0.01, 99), (1 / 3, 2), (0.3, 3), (1 / 49, 48), (0.9, 1)]
)
def test_the_least_number_of_samples_is_told_and_is_enough(alpha: float, least: int) -> None:
    """Without a single wrong class, ``1 / (n + 1) <= alpha`` is what n samples can promise."""
    enough = torch.zeros(2, least, 3)
    assert conformal_threshold(enough, alpha) == 0
    with pytest.raises(InputError, match=f"at least {least} calibration samples"):
        conformal_threshold(enough[:, 1:], alpha)
