"""Graph in, graph with fewer weights out: masks, scores, schedules, rewiring."""

from . import (  # noqa: F401  imported for the methods they enter
    block,
    channel_method,
    gradual,
    harp,
    hydra,
    magnitude,
    nm,
    rewiring_methods,
    snip,
    synflow,
)
from .allocation import Allocation, ErdosRenyi, Given, Lamp, Ranked, Uniform
from .methods import prune_graph
from .task import Lesson, PruneTask, layer_sparsities

__all__ = [
    "Allocation",
    "ErdosRenyi",
    "Given",
    "Lamp",
    "Lesson",
    "PruneTask",
    "Ranked",
    "Uniform",
    "layer_sparsities",
    "prune_graph",
]
