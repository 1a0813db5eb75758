"""What a search that only asks for logits has found, and whom it still has to ask about."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..target import Logits
from .best_image import Found
from .losses import margin, require_finite


@dataclass(frozen=True, eq=False)
class Hunt:
    """The most damaging image of every sample; a sample that is broken is asked about no more.

    Parameters
    ----------
    images : Tensor
        (sample, *shape).
    margins : Tensor
        (sample,) the largest other logit minus the label's own.
    left : Tensor
        (survivor,) int64: the samples that nothing has broken yet, by index.
    queries : Tensor
        (sample,) int64: how many images the network was asked about; the clean one, which only
        tells whether there is anything to do, is not counted.
    """

    images: Tensor
    margins: Tensor
    left: Tensor
    queries: Tensor

    @classmethod
    def before(cls, model: Logits, x: Tensor, y: Tensor) -> "Hunt":
        """Nothing but the clean images; those that are misclassified are broken already.

        Raises
        ------
        InputError
            As `Found.before` does: images outside [0, 1], wrong labels, no logits.
        """
        found, _ = Found.before(model, x, y)
        left = (~found.final).nonzero()[:, 0]
        return cls(found.images, found.margins, left, torch.zeros_like(y))

    def tried(self, model: Logits, images: Tensor, y: Tensor) -> "Hunt":
        """Ask about one image (survivor, *shape) for each survivor, and keep what is better.

        Raises
        ------
        InputError
            If some logits are not finite.
        """
        with torch.no_grad():
            logits = model(images)
        require_finite(logits)
        labels = y[self.left]
        margins, fooled = margin(logits, labels), logits.argmax(1) != labels
        better = fooled | (margins > self.margins[self.left])
        chosen = self.left[better]
        return Hunt(
            self.images.index_copy(0, chosen, images[better]),
            self.margins.index_copy(0, chosen, margins[better]),
            self.left[~fooled],
            self.queries.index_add(0, self.left, torch.ones_like(self.left)),
        )
