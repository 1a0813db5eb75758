"""MNIST-1D: forty heights a digit, made from ten templates by the rule of its authors.

Written from the rule, in the order in which it draws from numpy's old generator, whose stream numpy
keeps for good; rule and templates are those of the package mnist1d 0.0.2.post1 (Apache-2.0). A template
is stretched, scaled and shifted; where it is silent comes smooth noise, and everywhere a little; it is
sheared and sampled again.
"""

from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ..data_card import Arrays, DataSet, Split

Heights = NDArray[np.float64]

_TEMPLATES = np.array(
    [
        [5, 6, 6.5, 6.75, 7, 7, 7, 7, 6.75, 6.5, 6, 5],
        [5, 3, 3, 3.4, 3.8, 4.2, 4.6, 5, 5.4, 5.8, 5, 5],
        [5, 6, 6.5, 6.5, 6, 5.25, 4.75, 4, 3.5, 3.5, 4, 5],
        [5, 6, 6.5, 6.5, 6, 5, 5, 6, 6.5, 6.5, 6, 5],
        [5, 4.4, 3.8, 3.2, 2.6, 2.6, 5, 5, 5, 5, 5, 5],
        [5, 3, 3, 3, 3, 5, 6, 6.5, 6.5, 6, 4.5, 5],
        [5, 4, 3.5, 3.25, 3, 3, 3, 3, 3.25, 3.5, 4, 5],
        [5, 7, 7, 6.6, 6.2, 5.8, 5.4, 5, 4.6, 4.2, 5, 5],
        [5, 4, 3.5, 3.5, 4, 5, 5, 4, 3.5, 3.5, 4, 5],
        [5, 4, 3.5, 3.5, 4, 5, 5, 5, 5, 4.7, 4.3, 5],
    ]
)
_SEED, _COUNT, _TRAIN = 42, 5000, 4000
_LEAST_PAD, _MOST_PAD, _SHIFT = 36, 60, 48  # elements
_SCALE, _SMOOTH_NOISE, _NOISE, _SHEAR = 0.4, 0.25, 0.02, 0.75
_LONG, _SHORT = _TEMPLATES.shape[1] + _MOST_PAD, 40  # elements while it is made, and in the end
_NEVER_SILENT = 1e-8  # added, so that heights of zero within a template count as its own
_SIGMA, _REACH = 2.0, 8  # of the filter that makes noise smooth, in elements


@cache
def _made() -> tuple[Heights, NDArray[np.int64]]:
    """All samples (sample, 40) with mean 0 and deviation 1 over all, and their labels."""
    draw = np.random.RandomState(_SEED)
    whitened = _TEMPLATES - _TEMPLATES.mean(1, keepdims=True)
    whitened /= whitened.std(1, keepdims=True)
    templates = (whitened - whitened[:, :1]) / 6
    each = _COUNT // len(templates)
    x = np.stack([_varied(template, draw) for template in templates for _ in range(each)])
    order = draw.permutation(_COUNT)
    x, y = x[order], np.repeat(np.arange(len(templates)), each)[order]
    return (x - x.mean()) / x.std(), y


def _varied(template: Heights, draw: np.random.RandomState) -> Heights:
    """One sample of a template; the order of draws is the rule's."""
    pad = _LEAST_PAD + int(draw.rand() * (_MOST_PAD - _LEAST_PAD + 1))
    x = _sampled(np.concatenate([template + _NEVER_SILENT, np.zeros(pad)]), _LONG)
    x *= 1 + _SCALE * (draw.rand() - 0.5)
    shift = draw.choice(_SHIFT)
    x = np.concatenate([x[-shift:], x[:-shift]])
    smooth = _smoothing() @ (_SMOOTH_NOISE * draw.randn(_LONG))
    x = np.where(x != 0, x, smooth) + _NOISE * draw.randn(_LONG)
    x -= _SHEAR * (draw.rand() - 0.5) * (_places(_LONG) - 0.5)
    return _sampled(x, _SHORT)


def _sampled(x: Heights, count: int) -> Heights:
    """So many heights, evenly spaced, on the straight lines between those given."""
    return np.interp(_places(count), _places(len(x)), x)


@cache
def _places(count: int) -> Heights:
    return np.linspace(0, 1, count)


@cache
def _smoothing() -> Heights:
    """A Gaussian filter as a matrix; what lies outside mirrors what lies inside."""
    away = np.arange(-_REACH, _REACH + 1)
    kernel = np.exp(-0.5 * (away / _SIGMA) ** 2)
    mirrored = np.pad(np.eye(_LONG), ((0, 0), (_REACH, _REACH)), mode="symmetric")
    rows = [np.convolve(row, kernel / kernel.sum(), mode="valid") for row in mirrored]
    return np.array(rows).T


def _read(chosen: slice, folder: Path) -> Arrays:
    """Sequences (sample, 40, 1) and their labels."""
    x, y = _made()
    return Arrays(
        torch.from_numpy(x[chosen, :, None].astype(np.float32)), torch.from_numpy(y[chosen].copy())
    )


MNIST_1D = DataSet(
    name="mnist-1d",
    summary="digits as curves, from -6 to 5",
    shape=(_SHORT, 1),
    classes=tuple("0123456789"),
    licence="made here; the rule is Apache-2.0",
    citation="S. Greydanus, D. Kobak: Scaling Down Deep Learning with MNIST-1D, arXiv:2011.14439, 2020; "
    "made by the rule of mnist1d 0.0.2.post1",
    splits={
        "train": Split(_TRAIN, partial(_read, slice(_TRAIN)), shipped=True),
        "test": Split(
            _COUNT - _TRAIN, partial(_read, slice(_TRAIN, None)), shipped=True, tests=True
        ),
    },
)
