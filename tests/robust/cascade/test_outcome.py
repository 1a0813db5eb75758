"""Outcomes of parts make one outcome; intervals are Wilson's."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spikemorph.graph import InputError
from spikemorph.robust import Threat
from spikemorph.robust.cascade.outcome import MemberOutcome, WorstCase, merge
from spikemorph.robust.intervals import wilson


def outcome(eps: float, zero: float | None, gradients: int, attack: str = "pgd") -> WorstCase:
    """Three samples: one wrong at first, one broken, one standing; one member."""
    flags = [torch.tensor(row) for row in ([False, True, True], [False, False, True])]
    member = MemberOutcome(
        attack, None, None, 1, eps, 1, 2, 1, zero, zero, 5, 0.5, gradients=gradients
    )
    images = torch.zeros(3, 1, 2, 2)
    return WorstCase(Threat("linf", eps), *flags, torch.tensor([-1, 0, -1]), images, (member,))


def test_parts_add_up() -> None:
    """Zero gradients: 3 of 12 and 8 of 8 are 11 of 20; none of none adds nothing."""
    both = merge([outcome(0.1, 0.25, 12), outcome(0.1, 1.0, 8), outcome(0.1, None, 0)])
    assert len(both) == 9
    assert both.accuracy == pytest.approx(100 / 3)
    assert both.clean_accuracy == pytest.approx(200 / 3)
    assert both.cumulative == (both.accuracy,)
    assert both.interval == wilson(3, 9)
    (member,) = both.members
    assert (member.attacked, member.broken, member.queries, member.seconds) == (6, 3, 15, 1.5)
    assert member.zero_gradient_fraction == 11 / 20
    assert MemberOutcome.from_dict(member.to_dict()) == member


@pytest.mark.parametrize("other", [outcome(0.2, 0.0, 1), outcome(0.1, 0.0, 1, "fgsm")])
def test_outcomes_of_two_evaluations_are_not_merged(other: WorstCase) -> None:
    with pytest.raises(InputError, match="two evaluations"):
        merge([outcome(0.1, 0.0, 1), other])
    with pytest.raises(InputError, match="no outcome"):
        merge([])


@given(n=st.integers(1, 5000), share=st.floats(0, 1))
def test_wilson_ends_are_where_the_score_test_just_rejects(n: int, share: float) -> None:
    """(p - q)^2 = z^2 q (1 - q) / n at both ends q, z = 1.959964."""
    correct = round(share * n)
    low, high = (end / 100 for end in wilson(correct, n))
    p = correct / n
    assert 0 <= low <= p <= high <= 1
    for end in (low, high):
        if 0 < end < 1:
            assert (p - end) ** 2 == pytest.approx(
                1.959964**2 * end * (1 - end) / n, rel=1e-5, abs=1e-12
            )


def test_wilson_by_hand() -> None:
    """8 of 10, z^2 = 3.8415: middle (.8 + .19207) / 1.38415 = .71674, half .22664 -> 49.0 to 94.3."""
    assert wilson(8, 10) == pytest.approx((49.02, 94.33), abs=0.01)
    assert wilson(0, 0) == (0, 100)
    assert wilson(0, 5)[0] == 0
    assert wilson(5, 5)[1] == 100
    with pytest.raises(InputError, match="6 of 5"):
        wilson(6, 5)
