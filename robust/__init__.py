"""Attacks, gradient paths, worst cases, sanity gates, robust objectives, corruptions."""

from .attacks import apgd, apgd_targeted, fgsm, pgd, random_noise, square, torchattacks_fab  # noqa: F401  imported for the rows they enter in `attacks`
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
