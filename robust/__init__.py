"""Attacks, gradient paths, worst cases, sanity gates, robust objectives, corruptions."""

from .attack import Attack, attacks
from .draws import Draws
from .target import GradientPath, Target
from .threat import Threat

__all__ = ["Attack", "Draws", "GradientPath", "Target", "Threat", "attacks"]
