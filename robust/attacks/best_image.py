"""The most damaging image that an attack has found so far of every sample."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..target import Logits
from ..threat import require_unit_range, wide
from .losses import margin, require_finite, require_labels, require_logits


@dataclass(frozen=True, eq=False)
class Found:
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

    @classmethod
    def before(cls, model: Logits, x: Tensor, y: Tensor) -> tuple["Found", Tensor]:
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

    def with_(self, images: Tensor, logits: Tensor, y: Tensor) -> "Found":
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
        return Found(
            torch.where(wide(take, images), images, self.images),
            torch.where(take, margins, self.margins),
            self.fooled | (take & fooled),
            self.final,
        )

    def settled(self) -> "Found":
        """The same, and what fools by now is final.

        Called at moments that do not depend on the batch, so that neither do results.
        """
        return replace(self, final=self.fooled)

    def all_final(self) -> bool:
        """Whether no sample needs any more work."""
        return bool(self.final.all())
