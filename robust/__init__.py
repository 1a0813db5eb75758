"""Attacks, gradient paths, worst cases, sanity gates, robust objectives, corruptions."""

from . import (  # noqa: F401  imported for the rows they enter in `attacks`
    apgd,
    apgd_targeted,
    fgsm,
    noise,
    outside,
    pgd,
    square,
)
from .attack import Attack, attacks
from .draws import Draws
from .evaluate import EvaluationSettings, evaluate_robustness
from .target import GradientPath, Target
from .threat import Threat
from .worst_case import worst_case

__all__ = [
    "Attack",
    "Draws",
    "EvaluationSettings",
    "GradientPath",
    "Target",
    "Threat",
    "attacks",
    "evaluate_robustness",
    "worst_case",
]
