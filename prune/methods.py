"""The pruning methods by name; each file of the room enters its own."""

from spikemorph.graph import Graph, InputError
from spikemorph.graph.tables import Table

from .task import Method, PruneTask

# Key: the method's name. Row: the method with its published settings; others are made from Python.
methods: Table[Method] = Table("methods")


def prune_graph(method: str | Method, task: PruneTask) -> Graph:
    """Prune by a method's name, or by a method with settings of one's own.

    Raises
    ------
    InputError
        If there is no such method, it needs data and has none, or a layer would be emptied.
    """
    if not isinstance(method, str):
        return method(task)
    if method not in methods:
        raise InputError(f"no pruning method {method!r}; known: {', '.join(sorted(methods))}")
    return methods[method](task)
