"""Seeing every operator that torch computes."""

from torch.utils._python_dispatch import TorchDispatchMode


class Watcher(TorchDispatchMode):
    """A dispatch mode for eager code: one that torch does not load its compiler for.

    torch hides the dispatch of a mode from its compiler, and loads all of it for that at the first
    operator: more than a second, and as much memory again as torch.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False
