"""What a network is; how it is run, checked and saved."""

from .errors import GraphError, InputError, Problem, SpikemorphError, UnsupportedError
from .graph import Graph, Input, Node, Op
from .interpret import run

__all__ = [
    "Graph",
    "GraphError",
    "Input",
    "InputError",
    "Node",
    "Op",
    "Problem",
    "SpikemorphError",
    "UnsupportedError",
    "run",
]
