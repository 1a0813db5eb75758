"""The most damaging image that an attack has found so far of every sample."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from spikemorph.graph.brief import brief_repr

from ..target import Logits
from ..threat import require_unit_range, wide
from .losses import margin, require_finite, require_labels, require_logits


@dataclass(frozen=True, eq=False)
class BestImages:
    """Images that fool come before all others; among equals the largest margin decides.

    The margin serves attacks by any loss: unlike their losses it can be compared between targets
    and restarts. An image that fools by more also survives rounding and transfer better.

    Parameters
    ----------
    images : Tensor
        (sample, *shape).
    margins : Tensor
        (sample,) the largest other logit minus the label's own.
    fooled : Tensor
        (sample,) bool: the network does not say the label. Where logits tie it may or may not.
    final : Tensor
        (sample,) bool: this sample needs no more work; its image stays.
    """

    images: Tensor
    margins: Tensor
    fooled: Tensor
    final: Tensor

    __repr__ = brief_repr

    @classmethod
    def before(cls, model: Logits, x: Tensor, y: Tensor) -> tuple["BestImages", Tensor]:
        """What is known before any work, and the clean images' logits.

        The clean image itself is final where it is misclassified.

        Raises
        ------
        InputError
            If images are outside [0, 1], labels are not classes, or logits are not logits.
        """
        require_unit_range(x)
        with torch.no_grad():
            logits = model(x)
        require_logits(logits)
        require_labels(y, logits)
        fooled = logits.argmax(1) != y
        return cls(x.detach().clone(), margin(logits, y), fooled, fooled), logits

    def with_(self, images: Tensor, logits: Tensor, y: Tensor) -> "BestImages":
        """The better of what is here and other allowed images.

        Raises
        ------
        InputError
            If some logits are not finite: as numbers they would decide anything.
        """
        require_finite(logits)
        margins, fooled = margin(logits, y), logits.argmax(1) != y
        ahead = (fooled & ~self.fooled) | ((fooled == self.fooled) & (margins > self.margins))
        take = ahead & ~self.final
        return BestImages(
            torch.where(wide(take, images), images, self.images),
            torch.where(take, margins, self.margins),
            self.fooled | (take & fooled),
            self.final,
        )

    def settled(self) -> "BestImages":
        """The same, and what fools by now is final.

        Called at moments that do not depend on the batch, so that neither do results.
        """
        return replace(self, final=self.fooled)

    def all_final(self) -> bool:
        """Whether no sample needs any more work."""
        return bool(self.final.all())


@dataclass(frozen=True, eq=False)
class QuerySearch:
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

    __repr__ = brief_repr

    @classmethod
    def before(cls, model: Logits, x: Tensor, y: Tensor) -> "QuerySearch":
        """Nothing but the clean images; those that are misclassified are broken already.

        Raises
        ------
        InputError
            As `BestImages.before` does: images outside [0, 1], wrong labels, no logits.
        """
        found, _ = BestImages.before(model, x, y)
        left = (~found.final).nonzero()[:, 0]
        return cls(found.images, found.margins, left, torch.zeros_like(y))

    def tried(
        self, model: Logits, images: Tensor, y: Tensor, *, ties: bool = False
    ) -> "QuerySearch":
        """Ask about one image (survivor, *shape) for each survivor, and keep what is better.

        With `ties` an image of the same margin takes the place of the one before.

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
        before = self.margins[self.left]
        better = fooled | (margins > before) | (ties & (margins == before))
        chosen = self.left[better]
        return QuerySearch(
            self.images.index_copy(0, chosen, images[better]),
            self.margins.index_copy(0, chosen, margins[better]),
            self.left[~fooled],
            self.queries.index_add(0, self.left, torch.ones_like(self.left)),
        )
