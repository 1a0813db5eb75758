"""Channel removal as a method: whole channels go, and the graph really becomes smaller."""

from dataclasses import dataclass
from typing import ClassVar

from spikemorph.graph import Graph, InputError
from spikemorph.graph.brief import brief_repr
from spikemorph.layers.masks import masks_of

from .channel_choice import ChannelScore, FilterNorm, Scope, channel_scores, choose_channels
from .channel_groups import Coupling, couple_channels
from .channels import remove_channels
from .masked import train_masked
from .methods import methods
from .task import PruneTask

_BY_FILTER = FilterNorm()


@dataclass(frozen=True)
class RemoveChannels:
    """Remove the channels with the smallest filters, with all that is coupled to them; then train.

    The task's sparsity is the share of *channels*, of every layer (`Scope.LAYER`) or of all together.
    Masks of before are cut with the weights and kept while training. A share that removes nothing is
    refused, with the reason.
    """

    name: ClassVar[str] = "channels"
    score: ChannelScore = _BY_FILTER
    scope: Scope = Scope.LAYER

    __repr__ = brief_repr

    def __call__(self, task: PruneTask) -> Graph:
        if task.allocation is not None:
            raise InputError(
                "method channels: an allocation spreads weights, not channels; give none (Python: "
                "RemoveChannels(scope=...))"
            )
        coupling = couple_channels(task.graph)
        scores = channel_scores(coupling, self.score)
        removed = choose_channels(coupling, scores, task.sparsity, self.scope)
        if task.sparsity and not removed:
            raise InputError(
                f"method channels removes nothing: {_obstacle(coupling, task.sparsity)}"
            )
        smaller = remove_channels(task.graph, removed)
        if task.lesson is None:
            return smaller
        return train_masked(smaller, masks_of(smaller), task.lesson.phase(self.name))


def _obstacle(coupling: Coupling, share: float) -> str:
    """Why no channel of the network can go at this share."""
    made = [group for group in coupling.groups if group.members]
    free = [group for group in made if group.pinned is None]
    if not free:
        reasons = dict.fromkeys(f"{next(iter(g.members))!r}: {g.pinned}" for g in made)
        return f"all channels must stay ({'; '.join(reasons)}); prune weights instead (magnitude)"
    least = min(free, key=lambda group: group.size)
    return (
        f"{share:g} of a layer's channels is less than the fewest that go together, {least.size} of "
        f"{', '.join(map(repr, least.members))}; ask for more"
    )


methods(RemoveChannels.name)(RemoveChannels())
