"""How many samples are computed together: the one rule, for every pass over many samples."""

from collections.abc import Iterator
from math import prod

from torch import Tensor

from .graph import Graph
from .interpret import shapes
from .nested import nested_bodies

CACHED = 2**19  # numbers of the widest edge that are worked on at once: more leave the caches
HELD = 2**24  # numbers that are kept from one node to the next
MOST = 256  # samples: more save nothing


def batch_size(graph: Graph, times: int = 1) -> int:
    """Samples of which the widest edge, `times` over (steps taken together), stays in the caches.

    Where there are recurrent layers that is the widest at one element: what lies along all elements is
    only kept.
    """
    inner = [_widest(body) for _, body in nested_bodies(graph)]
    if not inner:
        return samples_within(CACHED, _widest(graph) * times)
    return min(samples_within(CACHED, max(inner) * times), samples_within(HELD, _widest(graph)))


def _widest(graph: Graph) -> int:
    return max(prod(shape) for shape in shapes(graph).values())


def pieces(x: Tensor, lengths: Tensor | None, size: int) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Samples a batch at a time, each with how many elements they have, where that is given."""
    for start in range(0, len(x), size):
        part = slice(start, start + size)
        yield x[part], None if lengths is None else lengths[part]


def samples_within(numbers: int, each: int) -> int:
    """How many samples of `each` numbers make at most so many; one at least."""
    return max(1, min(MOST, numbers // max(1, each)))
