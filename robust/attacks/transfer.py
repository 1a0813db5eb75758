"""Attack by the gradients of another network: its ANN twin, or one trained from another seed."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from spikemorph.graph.brief import brief_repr

from ..draws import Draws
from ..target import Logits
from ..threat import Threat
from .base import NAMED_BY, Attack
from .best_image import BestImages
from .pgd import Pgd


@dataclass(frozen=True)
class Transfer:
    """What an attack finds on one network, tried on another.

    Where masked gradients are the only defence, another network's get through.

    Parameters
    ----------
    source : callable
        The network that gradients are taken from, with the classes of the one under attack.
    inner : Attack
        Run on the source. One that goes on after the source is fooled transfers best, such as
        `Pgd` by its last iterate.
    of : str
        What tells the source from others, such as its name and hash: results in files need it.
    """

    source: Logits = field(metadata={NAMED_BY: "of"})
    inner: Attack
    of: str = ""

    gradients = False  # of the network under attack

    __repr__ = brief_repr

    @property
    def name(self) -> str:
        """``transfer``, and from where if that has a name."""
        return f"transfer from {self.of}" if self.of else "transfer"

    @property
    def threat(self) -> Threat:
        """Of the inner attack."""
        return self.inner.threat

    def __call__(self, model: Logits, x: Tensor, y: Tensor, draws: Draws) -> Tensor:
        """See `Attack`; the clean image stays where it is more damaging."""
        found, _ = BestImages.before(model, x, y)
        images = self.inner(self.source, x, y, draws)
        self.threat.check(images, x)
        with torch.no_grad():
            logits = model(images)
        return found.with_(images, logits, y).images


def transfer_from(source: Logits, threat: Threat, of: str = "") -> Transfer:
    """The last iterate of 40 steps of PGD by cross-entropy on `source`."""
    return Transfer(source, Pgd(threat, steps=40, last_iterate=True), of)
