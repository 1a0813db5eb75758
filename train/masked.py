"""A weight under a mask, as a transform of a trained module, and the proof that it was kept."""

from collections.abc import Iterable, Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from spikemorph.graph import GraphError


class Masked(nn.Module):
    """``weight * mask``: gradients are masked on their way back, so before the momentum is formed.

    Parameters
    ----------
    mask : Tensor
        Bool, shaped like the weight.
    noting : bool
        Whether the gradient of all positions, kept or not, is summed up in `dense_gradient`, over
        all uses of the weight, until `forget` is called.
    """

    mask: Tensor

    def __init__(self, mask: Tensor, *, noting: bool = False) -> None:
        super().__init__()
        self.register_buffer("mask", mask.clone())
        self.noting = noting
        self.dense_gradient: Tensor | None = None

    def forward(self, weight: Tensor) -> Tensor:
        used = weight * self.mask
        if self.noting and used.requires_grad:
            used.register_hook(self._note)
        return used

    def _note(self, gradient: Tensor) -> None:
        seen, more = self.dense_gradient, gradient.detach()
        self.dense_gradient = more if seen is None else seen + more

    def forget(self) -> None:
        """Start a new sum."""
        self.dense_gradient = None


class HoldsWeights(Protocol):
    """A module that learns weights by node name, some through a transform (`GraphModule` does)."""

    def weight(self, name: str) -> nn.Parameter:
        """The weight that a node learns, before its transform."""
        ...

    def transform(self, name: str) -> nn.Module | None:
        """The transform of a node's weight, if it has one."""
        ...


def mask_in(module: HoldsWeights, name: str) -> Tensor:
    """The mask that a node's transform holds now; changing it moves the mask."""
    mask = getattr(module.transform(name), "mask", None)
    assert isinstance(mask, Tensor), f"node {name!r} has no mask"
    return mask


@torch.no_grad()
def zero_outside(module: HoldsWeights, names: Iterable[str]) -> None:
    """Zero what the named nodes' learnt weights hold outside their masks."""
    for name in names:
        module.weight(name).mul_(mask_in(module, name))


def check_masks(
    module: HoldsWeights, names: Iterable[str], epoch: int, before: Mapping[str, Tensor] | None
) -> None:
    """Prove that weights outside masks are zero, and that no mask moved since `before`.

    Parameters
    ----------
    module : HoldsWeights
        Its named nodes have transforms that hold a mask.
    names : iterable of str
        The masked nodes.
    epoch : int
        After which the check is made, for the message.
    before : mapping of str to Tensor, or None
        The masks as they must be, bit for bit; None where something may move them.

    Raises
    ------
    GraphError
        If a learnt weight outside its mask is not exactly zero, or a mask moved.
    """
    for name in names:
        mask = mask_in(module, name)
        if before is not None and not torch.equal(mask, before[name].to(mask.device)):
            raise GraphError(f"node {name!r}: its mask moved in epoch {epoch}: this is a defect")
        if bool((module.weight(name)[~mask] != 0).any()):
            raise GraphError(
                f"node {name!r}: weights outside its mask are not zero after epoch {epoch}: "
                "this is a defect"
            )
