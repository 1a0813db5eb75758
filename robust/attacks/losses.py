"""Losses of every single sample, which an attacker makes large, and what they ask of logits."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from spikemorph.graph import InputError
from spikemorph.graph.tables import Table

from .base import SampleLoss

_SMALL = 1e-12
_UNIT = 1e-4  # how far a row of probabilities may be from a sum of one

# Key: the loss's name, as in options and results. Row: (sample, class) logits and labels to losses.
losses: Table[SampleLoss] = Table("losses")


@losses("ce")
def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """-log softmax(z)_y."""
    return functional.cross_entropy(logits, y, reduction="none")


@losses("cw")
def margin(logits: Tensor, y: Tensor) -> Tensor:
    """max_{k != y} z_k - z_y (Carlini and Wagner, 2017, without its cut): positive once fooled.

    Raises
    ------
    InputError
        If there are fewer than two classes.
    """
    _require_classes(logits, 2, "margin (cw)")
    others = logits.scatter(1, y[:, None], -torch.inf)
    return others.amax(1) - _of(logits, y)


@losses("dlr")
def dlr(logits: Tensor, y: Tensor) -> Tensor:
    """(max_{k != y} z_k - z_y) / (z_(1) - z_(3)), with z_(i) the i-th largest logit.

    The difference of logits ratio of Croce and Hein (ICML 2020, equation 6): as it does not change
    when logits are shifted or scaled, a network cannot hide by large logits.

    Raises
    ------
    InputError
        If there are fewer than three classes.
    """
    _require_classes(logits, 3, "difference of logits ratio (dlr)")
    top = logits.topk(3, dim=1).values
    return margin(logits, y) / (top[:, 0] - top[:, 2] + _SMALL)


def dlr_towards(target: Tensor) -> SampleLoss:
    """(z_t - z_y) / (z_(1) - (z_(3) + z_(4)) / 2): large where class `target` (sample,) wins.

    The targeted ratio of Croce and Hein (ICML 2020, equation 7). The loss that is returned raises
    an `InputError` if there are fewer than four classes.
    """

    def loss(logits: Tensor, y: Tensor) -> Tensor:
        _require_classes(logits, 4, "targeted difference of logits ratio (targeted dlr)")
        top = logits.topk(4, dim=1).values
        spread = top[:, 0] - (top[:, 2] + top[:, 3]) / 2
        return (_of(logits, target) - _of(logits, y)) / (spread + _SMALL)

    return loss


def kl_to(reference: Tensor) -> SampleLoss:
    """sum_k p_k (log p_k - log softmax(z)_k), for reference probabilities p (sample, class).

    It is blind to labels: the inner problem of TRADES (Zhang et al., ICML 2019), where p is what
    the network says of the clean images.
    """

    def loss(logits: Tensor, y: Tensor) -> Tensor:
        del y
        found = functional.log_softmax(logits, dim=1)
        return functional.kl_div(found, reference.to(found), reduction="none").sum(1)

    return loss


def loss_named(name: str) -> SampleLoss:
    """The loss of the table with this name.

    Raises
    ------
    InputError
        If there is none; names the known ones.
    """
    if name not in losses:
        raise InputError(f"loss {name!r}: choose one of {', '.join(losses)}")
    return losses[name]


def checked(name: str, y: Tensor) -> Callable[[Tensor], Tensor]:
    """The named loss of samples with labels `y`, which refuses what is not logits.

    Raises
    ------
    InputError
        If there is no such loss; the loss raises it for what `require_logits` and `require_labels`
        refuse.
    """
    chosen = loss_named(name)

    def loss(logits: Tensor) -> Tensor:
        require_logits(logits)
        require_labels(y, logits)
        return chosen(logits, y)

    return loss


def require_logits(logits: Tensor) -> None:
    """Refuse what is not logits.

    Raises
    ------
    InputError
        If it is not (sample, class), if some are not finite (names the first such sample), or if
        all rows are probabilities: their gradients vanish, and losses take a softmax themselves.
    """
    if logits.dim() != 2:
        raise InputError(
            f"the network returned a tensor of shape {tuple(logits.shape)}: an attack needs logits "
            "of shape (sample, class); average over time steps first"
        )
    require_finite(logits)
    sums = logits.double().sum(1)
    inside = bool(((logits >= 0) & (logits <= 1)).all())
    if len(logits) and inside and bool(((sums - 1).abs() <= _UNIT).all()):
        raise InputError(
            "the network returned probabilities (every row is in 0..1 and sums to 1): give its "
            "logits; remove the final softmax"
        )


def require_finite(logits: Tensor) -> None:
    """Refuse logits that are infinite or not a number: a NaN would count as any class.

    Raises
    ------
    InputError
        Naming the first such sample.
    """
    bad = ~torch.isfinite(logits).all(1)
    if bool(bad.any()):
        raise InputError(
            f"sample {int(bad.nonzero()[0])}: the network returned logits that are not finite; "
            "its weights or its normalisation are broken"
        )


def require_labels(y: Tensor, logits: Tensor) -> None:
    """Refuse labels that are not classes of the network.

    Raises
    ------
    InputError
        If there is not one whole number for each sample, or naming the first sample whose label is
        outside 0 .. classes - 1.
    """
    if y.shape != logits.shape[:1] or y.dtype != torch.int64:
        raise InputError(
            f"labels of shape {tuple(y.shape)} and type {y.dtype} for {len(logits)} samples: give "
            "one int64 number for each"
        )
    bad = (y < 0) | (y >= logits.shape[1])
    if bool(bad.any()):
        index = int(bad.nonzero()[0])
        raise InputError(
            f"sample {index}: label {int(y[index])}, but the network has {logits.shape[1]} classes "
            f"(0 to {logits.shape[1] - 1}); use the labels it was trained with"
        )


def _of(logits: Tensor, which: Tensor) -> Tensor:
    """(sample,) every sample's logit of one class."""
    return logits.gather(1, which[:, None])[:, 0]


def _require_classes(logits: Tensor, least: int, loss: str) -> None:
    if logits.shape[1] < least:
        raise InputError(
            f"loss {loss} needs at least {least} classes, but the network has "
            f"{logits.shape[1]}" + ("; use ce" if least > 2 else "")
        )
