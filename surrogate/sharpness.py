"""The adaptive-sharpness surrogate: slopes as wide as a neuron's membrane is far, over an attack's run.

Wang et al., arXiv 2512.22522 (ASSG). The derivative of the arctangent surrogate at sharpness alpha, where
alpha follows each neuron, layer and time step by running means over the iterations of an attack:

    M <- kept M + (1 - kept) |u|,    D <- kept D + (1 - kept) ||u| - M|,    alpha = a / (M + relax D)
    d o / d u = (alpha / 2) / (1 + (pi alpha u / 2)^2),    a = 2 tan(pi half) / pi

The formulas, the numbers and the detached reset are those of the authors' program. Ours: M begins at the
layer's threshold, where theirs begins at 1, as their thresholds are alike.
"""

import math
from dataclasses import dataclass

from torch import Tensor

from spikemorph.graph import InputError
from spikemorph.graph.brief import brief_repr

from .gradients import through_time
from .neuron import Train

_SMALL = 1e-4  # as in the authors' program


@dataclass(frozen=True)
class AdaptiveSharpness:
    """The rule before its first iteration; `begin` is one that remembers.

    Parameters
    ----------
    half : float
        Half of the share of a neuron's gradient that may vanish, above 0, less than 0.5: how sharp.
    relax : float
        How far spread counts beside the mean.
    kept : float
        What an iteration keeps of both running means.

    Raises
    ------
    InputError
        If a number is out of its range.
    """

    half: float = 0.425
    relax: float = 1.5
    kept: float = 0.9

    def __post_init__(self) -> None:
        if not (0 < self.half < 0.5 and 0 <= self.relax < math.inf and 0 <= self.kept < 1):
            raise InputError(
                f"assg with half {self.half}, relax {self.relax}, kept {self.kept}: give half in "
                "(0, 0.5), relax of 0 or more, and kept in 0..1, less than 1"
            )

    @property
    def scale(self) -> float:
        """a: the sharpness of a neuron whose membrane is at a distance of one."""
        return 2 * math.tan(math.pi * self.half) / math.pi

    def begin(self) -> "SharpnessRun":
        """For one run of an attack."""
        return SharpnessRun(self)

    def gradients(self, train: Train, output: Tensor) -> tuple[Tensor, Tensor]:
        """As `Backward` says: those of a run's first iteration."""
        return self.begin().gradients(train, output)


class SharpnessRun:
    """A rule that remembers what its earlier passes saw of every neuron.

    `again` begins a pass; layers are told apart by the order in which a pass takes their gradients. All
    passes must be of the same samples: where a shape differs the memory begins anew.
    """

    def __init__(self, rule: AdaptiveSharpness) -> None:
        self._rule = rule
        self._seen: list[tuple[Tensor, Tensor]] = []  # M and D of every layer
        self._layer = 0

    __repr__ = brief_repr

    def again(self) -> None:
        """The next gradient is that of the last layer."""
        self._layer = 0

    def gradients(self, train: Train, output: Tensor) -> tuple[Tensor, Tensor]:
        """As `Backward` says."""
        far = train.distances.abs()
        mean, spread = self._followed(far, train.threshold)
        sharpness = self._rule.scale / (mean + self._rule.relax * spread + _SMALL)
        slopes = (sharpness / 2) / (1 + (math.pi / 2 * sharpness * far) ** 2)
        return through_time(train, slopes, output, through_reset=False)

    def _followed(self, far: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
        """M and D with what this pass saw."""
        place, kept = self._layer, self._rule.kept
        self._layer += 1
        if place < len(self._seen) and self._seen[place][0].shape == far.shape:
            mean, spread = self._seen[place]
        else:
            mean, spread = threshold.expand_as(far), far.new_zeros(()).expand_as(far)
        mean = kept * mean + (1 - kept) * far
        spread = kept * spread + (1 - kept) * (far - mean).abs()
        self._seen[place : place + 1] = [(mean, spread)]
        return mean, spread
