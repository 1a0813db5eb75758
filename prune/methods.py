"""The pruning methods by name; each file of the room enters its own."""

from collections.abc import Callable

from spikemorph.graph import Graph, InputError
from spikemorph.graph.tables import Table

from .task import PruneTask

# Key: the method's name. Row: task -> the pruned graph, trained where the task has a lesson.
methods: Table[Callable[[PruneTask], Graph]] = Table("methods")


def prune_graph(method: str, task: PruneTask) -> Graph:
    """Prune by a method's name.

    Raises
    ------
    InputError
        If there is no such method, it needs data and has none, or a layer would be emptied.
    """
    if method not in methods:
        raise InputError(f"no pruning method {method!r}; known: {', '.join(sorted(methods))}")
    return methods[method](task)
