"""Attacks, gradient paths, worst cases, sanity gates, robust objectives, corruptions."""

from .attacks import (  # noqa: F401  imported for the rows they enter in `attacks`
    apgd,
    apgd_targeted,
    fgsm,
    momentum_pgd,
    pgd,
    random_noise,
    refine,
    square,
    stable_adaptive,
    torchattacks_fab,
)
from .attacks.base import Attack, attacks
from .cascade.worst_case import worst_case
from .draws import Draws
from .evaluate import EvaluationSettings, evaluate_robustness
from .target import GradientPath, Target
from .threat import Threat

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
