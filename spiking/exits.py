"""Stop before the last step: when silent, when confident, or when a promised agreement allows it.

The settled class is known without labels (it is the integer network's), so the confidence at which to
stop can be chosen on any samples such that early and settled class differ in at most a share alpha of
cases, by conformal risk control (Angelopoulos et al., 2024): the empirical share R over n samples must
satisfy ``(n R + 1) / (n + 1) <= alpha``.
"""

from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from spikemorph.graph import InputError

NEVER = 2.0  # a confidence that is never reached


def confidence(outputs: Tensor) -> Tensor:
    """(step, sample) largest softmax probability, from (step, sample, class) real outputs."""
    return outputs.softmax(-1).amax(-1)


def exit_steps(confidences: Tensor, threshold: float) -> Tensor:
    """(sample,) the first step, counted from 1, at which the threshold is reached; else the last."""
    reached = confidences >= threshold
    first = reached.to(torch.int8).argmax(0) + 1
    return torch.where(reached.any(0), first, torch.full_like(first, len(confidences)))


def conformal_threshold(outputs: Tensor, alpha: float) -> float:
    """The least confidence at which stopping keeps the settled class in all but `alpha` of cases.

    Parameters
    ----------
    outputs : Tensor
        (step, sample, class) real outputs on calibration samples; the last step is settled.
    alpha : float
        The promised share of differing classes, between 0 and 1.

    Raises
    ------
    InputError
        If alpha is outside (0, 1), or too small for so few samples.
    """
    count = outputs.shape[1]
    if not 0 < alpha < 1:
        raise InputError(f"conformal={alpha:g}: give a share between 0 and 1")
    if 1 / (count + 1) > alpha:
        least = int(1 / Fraction(alpha)) - 1
        least += 1 / (least + 1) > alpha
        raise InputError(f"conformal={alpha:g} needs at least {least} calibration samples")
    known, classes = confidence(outputs), outputs.argmax(-1)
    best = NEVER
    for threshold in torch.linspace(1, 0, 1001).tolist():
        step = exit_steps(known, threshold) - 1
        early = classes.gather(0, step[None])[0]
        wrong = int((early != classes[-1]).sum())
        if (wrong + 1) / (count + 1) > alpha:
            break
        best = threshold
    return best


@dataclass(frozen=True)
class ExitRule:
    """When to stop early: `kind` is silent, confidence or conformal; `value` its number."""

    kind: str
    value: float = 0.0
