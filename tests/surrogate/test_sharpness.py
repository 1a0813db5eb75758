"""Laws of the adaptive-sharpness surrogate: published formulas, and what a run remembers."""

import math

import pytest
import torch
from torch import Tensor

from spikemorph.graph import InputError
from spikemorph.surrogate import Dynamics
from spikemorph.surrogate.neuron import Train
from spikemorph.surrogate.sharpness import AdaptiveSharpness, SharpnessRun

RULE = AdaptiveSharpness(half=0.4, relax=1.5, kept=0.9)
THRESHOLD = torch.tensor(0.7)


def train(seed: int, count: int = 5) -> Train:
    """Three steps of `count` samples with four neurons."""
    currents = torch.randn(3, count, 4, generator=torch.Generator().manual_seed(seed))
    dynamics = Dynamics(3)
    return Train(currents, dynamics.membranes(currents, THRESHOLD), THRESHOLD, dynamics)


def last_slopes(run: SharpnessRun | AdaptiveSharpness, seen: Train) -> Tensor:
    """The slopes of the last step: nothing comes after it, so its gradient is the slope."""
    output = torch.zeros_like(seen.membranes)
    output[-1] = 1
    return run.gradients(seen, output)[0][-1]


def test_formulas_over_two_passes_are_the_published_ones() -> None:
    run = RULE.begin()
    mean, spread = torch.full((5, 4), 0.7), torch.zeros(5, 4)
    a = 2 * math.tan(0.4 * math.pi) / math.pi
    for seed in range(2):
        seen = train(seed)
        run.again()
        found = last_slopes(run, seen)
        u = seen.membranes[-1] - 0.7
        mean = 0.9 * mean + 0.1 * u.abs()
        spread = 0.9 * spread + 0.1 * (u.abs() - mean).abs()
        alpha = a / (mean + 1.5 * spread + 1e-4)
        wanted = alpha / 2 / (1 + (math.pi / 2 * alpha * u).square())
        torch.testing.assert_close(found, wanted)


def test_neurons_that_stay_end_alike_but_for_their_distance() -> None:
    """A membrane that does not move ends with a slope that only its distance scales."""
    run, seen = RULE.begin(), train(3)
    for _ in range(400):
        run.again()
        found = last_slopes(run, seen)
    scaled = found * (seen.membranes[-1] - 0.7).abs()
    a = RULE.scale
    torch.testing.assert_close(
        scaled, torch.full_like(scaled, a / 2 / (1 + (math.pi * a / 2) ** 2)), rtol=0.05, atol=0
    )


def test_layers_have_memories_of_their_own() -> None:
    first, second = train(4), train(5)
    run, alone = RULE.begin(), RULE.begin()
    for _ in range(3):
        run.again(), alone.again()
        last_slopes(run, first)
        together = last_slopes(run, second)
        apart = last_slopes(alone, second)
    assert torch.equal(together, apart)


def test_a_sample_sees_no_other_and_other_samples_begin_anew() -> None:
    seen = train(6)
    whole, part = RULE.begin(), RULE.begin()
    for _ in range(2):
        whole.again(), part.again()
        together, alone = last_slopes(whole, seen), last_slopes(part, seen.rows(slice(1, 3)))
    assert torch.equal(together[1:3], alone)
    whole.again()
    assert torch.equal(last_slopes(whole, train(7, 2)), last_slopes(RULE, train(7, 2)))


def test_no_gradient_passes_the_reset() -> None:
    """Of what a spike takes from the membrane nothing is passed on: of the first spike only its own."""
    currents = torch.tensor([[[1.0]], [[0.2]]])
    dynamics = Dynamics(2)
    seen = Train(currents, dynamics.membranes(currents, THRESHOLD), THRESHOLD, dynamics)
    output = torch.tensor([[[0.0]], [[1.0]]])
    assert RULE.gradients(seen, output)[0][0] == 0  # it fired, so nothing of it is left


@pytest.mark.parametrize("change", [{"half": 0.5}, {"half": 0.0}, {"relax": -1.0}, {"kept": 1.0}])
def test_numbers_out_of_range_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(InputError, match="assg with half"):
        AdaptiveSharpness(**change)
