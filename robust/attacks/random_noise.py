"""Random images of the ball: the floor that every attack has to get below."""

from dataclasses import dataclass

from torch import Tensor

from spikemorph.graph import InputError

from ..draws import Draws
from ..target import Logits
from ..threat import Threat
from .base import attacks
from .best_image import QuerySearch


@dataclass(frozen=True)
class Noise:
    """As many random images as asked for, of which the most damaging is kept.

    By turns they are uniform in the ball, and at its border: a corner of the cube for "linf", on
    the sphere for "l2"; all are clipped to [0, 1].

    Parameters
    ----------
    threat : Threat
    draws : int
        Images for each sample; a sample that one has fooled gets no more.

    Raises
    ------
    InputError
        If no image is asked for.
    """

    threat: Threat
    draws: int

    name = "noise"
    gradients = False

    def __post_init__(self) -> None:
        if self.draws < 1:
            raise InputError(f"{self.draws} random images: noise needs at least 1")

    def __call__(self, model: Logits, x: Tensor, y: Tensor, draws: Draws) -> Tensor:
        """See `Attack`."""
        return self.search(model, x, y, draws).images

    def search(self, model: Logits, x: Tensor, y: Tensor, draws: Draws) -> QuerySearch:
        """The same, with the number of queries of every sample."""
        search = QuerySearch.before(model, x, y)
        for turn in range(self.draws if self.threat.eps > 0 else 0):
            if not len(search.left):
                break
            stream, clean = draws.rows(search.left).fork(f"draw {turn}"), x[search.left]
            inside = turn % 2 == 0
            images = self.threat.start(clean, stream) if inside else self._border(clean, stream)
            search = search.tried(model, images, y)
        return search

    def _border(self, clean: Tensor, draws: Draws) -> Tensor:
        way = self.threat.steepest(draws.normal(*clean.shape[1:]).to(clean))
        return self.threat.project(clean + self.threat.eps * way, clean)


@attacks("noise")
def noise(threat: Threat) -> Noise:
    """100 random images."""
    return Noise(threat, draws=100)
