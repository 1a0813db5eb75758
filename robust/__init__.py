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
from .target import GradientPath, Target
from .threat import Threat

__all__ = ["Attack", "Draws", "GradientPath", "Target", "Threat", "attacks"]
