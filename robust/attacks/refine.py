"""A search without gradients that starts where other attacks stopped."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from spikemorph.graph import InputError

from ..draws import Draws
from ..target import Logits
from ..threat import Threat, wide
from .base import attacks
from .best_image import QuerySearch

_SHORTEST = 0.02  # move for "l2", as a share of eps


@dataclass(frozen=True)
class Refine:
    """Move a few numbers of the best image so far to their bounds; keep what does not shrink the margin.

    Logits of spiking networks are plateaus on which gradients end: means of a few spikes, sums of
    rungs. Where a gradient attack stopped at a small margin, small random changes go on. A proposal
    changes a share of the numbers that is drawn anew each time, between one number and `widest` of
    all, every one to clean plus or minus eps ("linf"), or moves along a random sparse direction
    ("l2"). Equal margins are kept, so that a search drifts along its plateau. Every sample has its
    own draws and its own end, so results do not depend on the batch.

    Parameters
    ----------
    threat : Threat
    queries : int
        Images that the network may be asked about, for each sample, at most.
    patience : int
        A sample is left alone once so many queries in a row have brought it nothing.
    widest : float
        The largest share of an image's numbers that one proposal changes.
    onward : bool
        Whether to start at the best image so far; else at the clean one.

    Raises
    ------
    InputError
        If there is no query, no patience, or the share is not in (0, 1].
    """

    threat: Threat
    queries: int = 2500
    patience: int = 500
    widest: float = 0.05
    onward: bool = True

    name = "refine"
    gradients = False
    loss = "cw"

    def __post_init__(self) -> None:
        if self.queries < 1 or self.patience < 1 or not 0 < self.widest <= 1:
            raise InputError(
                f"refine with {self.queries} queries, patience {self.patience} and shares of up to "
                f"{self.widest}: give at least 1 query and 1 of patience, and a share in (0, 1]"
            )

    def __call__(
        self, model: Logits, x: Tensor, y: Tensor, draws: Draws, start: Tensor | None = None
    ) -> Tensor:
        """See `Attack`."""
        return self.search(model, x, y, draws, start).images

    def search(
        self, model: Logits, x: Tensor, y: Tensor, draws: Draws, start: Tensor | None = None
    ) -> QuerySearch:
        """The same, with the number of queries of every sample."""
        search = QuerySearch.before(model, x, y)
        if self.threat.eps == 0 or not len(search.left):
            return search
        if start is not None:
            search = search.tried(model, start[search.left], y)
        gained = search.queries  # by how many queries each margin last grew
        while len(search.left):
            left = search.left
            step = int(search.queries[left].max())  # all that are left were asked equally often
            proposed = self._proposal(x[left], search.images[left], draws.rows(left).fork(step))
            before = search.margins
            search = search.tried(model, proposed, y, ties=True)
            gained = torch.where(search.margins > before, search.queries, gained)
            going = (search.queries < self.queries) & (search.queries - gained < self.patience)
            search = replace(search, left=search.left[going[search.left]])
        return search

    def _proposal(self, clean: Tensor, best: Tensor, draws: Draws) -> Tensor:
        """(survivor, *shape), allowed."""
        count = clean[0].numel()
        share = draws.fork("share").uniform(1).to(clean) * math.log(max(1.0, self.widest * count))
        drawn = draws.fork("place").uniform(count).to(clean)
        chosen = (drawn < share.exp() / count) | (drawn == drawn.amin(1, keepdim=True))
        signs = draws.fork("sign").signs(count).to(clean)
        if self.threat.norm == "linf":
            moved = clean.flatten(1) + self.threat.eps * signs
            proposed = torch.where(chosen, moved, best.flatten(1)).reshape(clean.shape)
        else:
            length = _SHORTEST ** draws.fork("length").uniform(1).to(clean)[:, 0]
            way = self.threat.steepest((chosen * signs).reshape(clean.shape))
            proposed = best + self.threat.eps * wide(length, best) * way
        return self.threat.project(proposed, clean)


@attacks("refine")
def refine(threat: Threat) -> Refine:
    """2500 queries, and 500 of patience."""
    return Refine(threat)
