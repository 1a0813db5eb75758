"""The 15 common corruptions, and how accurate a network is under them.

Hendrycks and Dietterich, "Benchmarking neural network robustness to common corruptions and
perturbations", ICLR 2019. They are computed here, so that any data set of small images can be
corrupted. Constants are those of CIFAR-10-C, checked against its published generator, and with them
its quirks: the severities of glass, snow and elastic transform are not in order of damage. Frost is
drawn, where the benchmark cuts it from photographs: compare it, and the mean with it, within this
software only. The rest differs in its draws, in how pixels are resampled (by parts of a pixel) and
in that pixels are not rounded to bytes.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from spikemorph.graph import InputError
from spikemorph.graph.plain import Plain

from ..draws import Draws
from ..threat import require_unit_range
from . import blur, digital, noise, weather  # noqa: F401  imported for the rows they enter in `corruptions`
from .table import SEVERITIES, corruptions

NAMES = (  # in the order of the paper
    *("gaussian noise", "shot noise", "impulse noise"),
    *("defocus blur", "glass blur", "motion blur", "zoom blur"),
    *("snow", "frost", "fog", "brightness"),
    *("contrast", "elastic transform", "pixelate", "jpeg compression"),
)
_SMALLEST, _LARGEST = 8, 224
_BATCH = 256


def corrupt(name: str, x: Tensor, severity: int, draws: Draws) -> Tensor:
    """Corrupted images, in [0, 1].

    Parameters
    ----------
    name : str
        One of `NAMES`.
    x : Tensor
        (sample, C, H, W) in [0, 1]; C is 1 or 3, H and W from 8 to 224.
    severity : int
        1 (slight) to 5.
    draws : Draws
        One stream for each sample. Severities share it: the same noise, only more of it.

    Raises
    ------
    InputError
        If there is no such corruption or severity, or images are not as above.
    """
    if name not in corruptions:
        raise InputError(f"corruption {name!r}: choose one of {', '.join(NAMES)}")
    if severity not in SEVERITIES:
        raise InputError(f"severity {severity}: choose 1 to 5")
    shape = tuple(x.shape[1:])
    if len(shape) != 3 or shape[0] not in (1, 3) or not _fits(shape[1:]):
        raise InputError(
            f"samples of shape {shape} cannot be corrupted: give images (C, H, W) with 1 or 3 "
            f"channels and sides of {_SMALLEST} to {_LARGEST} pixels"
        )
    require_unit_range(x)
    return corruptions[name](x, severity, draws.fork(name)).clamp(0, 1)


def corruption_accuracy(
    classes_of: Callable[[Tensor], Tensor],
    x: Tensor,
    y: Tensor,
    seed: int,
    severities: Sequence[int] = SEVERITIES,
) -> dict[str, Plain]:
    """Accuracy under all corruptions, as plain JSON.

    Parameters
    ----------
    classes_of : callable
        Images (sample, C, H, W) to predicted classes (sample,).
    x, y : Tensor
        Images as in `corrupt`; (sample,) labels.
    seed : int
        Of all draws; sample k has the same stream whatever else is given.
    severities : sequence of int

    Returns
    -------
    dict
        ``names``, ``severities``, ``accuracy`` (per cent, a row for each name, a column for each
        severity) and ``mean`` over all of them.

    Raises
    ------
    InputError
        As `corrupt` does; if there are no samples, no severities, or not one label for each.
    """
    draws = Draws.of(seed, torch.arange(len(x), device=x.device))
    return corruption_result(corruption_hits(classes_of, x, y, draws, severities), severities)


def corruption_hits(
    classes_of: Callable[[Tensor], Tensor],
    x: Tensor,
    y: Tensor,
    draws: Draws,
    severities: Sequence[int] = SEVERITIES,
) -> Tensor:
    """(name, severity, sample) bool: whether the corrupted image is classified correctly.

    Shards are put together along samples.

    Raises
    ------
    InputError
        As `corrupt` does; if there are no samples, no severities, or not one label for each.
    """
    if not len(x) or not severities or y.shape != (len(x),):
        raise InputError(
            f"{len(x)} images, labels of shape {tuple(y.shape)} and severities "
            f"{list(severities)}: give at least one of each, and one label for each image"
        )
    hits = torch.zeros(len(NAMES), len(severities), len(x), dtype=torch.bool, device=x.device)
    for start in range(0, len(x), _BATCH):
        part = slice(start, start + _BATCH)
        own = Draws(draws.seeds[part])
        for row, name in enumerate(NAMES):
            for column, severity in enumerate(severities):
                with torch.no_grad():
                    found = classes_of(corrupt(name, x[part], severity, own))
                hits[row, column, part] = found.to(y.device) == y[part]
    return hits


def corruption_result(hits: Tensor, severities: Sequence[int] = SEVERITIES) -> dict[str, Plain]:
    """What `corruption_accuracy` returns, of `hits` (name, severity, sample)."""
    accuracy = 100 * hits.double().mean(2)
    return {
        "names": list(NAMES),
        "severities": list(severities),
        "accuracy": accuracy.tolist(),
        "mean": float(accuracy.mean()),
    }


def _fits(sides: tuple[int, ...]) -> bool:
    return all(_SMALLEST <= side <= _LARGEST for side in sides)
