"""How many weights each layer keeps: uniform, Erdos-Renyi, given, or by rank over all layers.

An allocation turns scores into masks. Ties are broken by position, so that the count is exact.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from spikemorph.graph import InputError

Scores = Mapping[str, Tensor]  # node name -> real score of every weight; high is kept


class Allocation(Protocol):
    """Chooses which weights are kept."""

    def masks(self, scores: Scores, sparsity: float) -> dict[str, Tensor]:
        """Masks that keep the best-scored weights, a share of ``1 - sparsity`` over all layers."""
        ...


def kept_of(count: float, sparsity: float) -> int:
    """How many of `count` weights are kept, ``floor((1 - sparsity) count)``.

    A millionth is added first, so that the rounding of 1 - 0.9 does not cost a weight.
    """
    return math.floor((1 - sparsity) * count + 1e-6)


def best(scores: Tensor, kept: int) -> Tensor:
    """The mask of the `kept` highest scores; of equal ones, the first."""
    mask = torch.zeros(scores.numel(), dtype=torch.bool, device=scores.device)
    order = torch.argsort(scores.detach().reshape(-1), descending=True, stable=True)
    mask[order[:kept]] = True
    return mask.reshape(scores.shape)


@dataclass(frozen=True)
class Uniform:
    """Every layer at the same sparsity, first and last included (arXiv 2505.15833, section 4.1)."""

    def masks(self, scores: Scores, sparsity: float) -> dict[str, Tensor]:
        return {name: best(s, kept_of(s.numel(), sparsity)) for name, s in scores.items()}


@dataclass(frozen=True)
class ErdosRenyi:
    """Density in proportion to ``sum(shape) / prod(shape)``, at most 1 (RigL, ICML 2020: ERK)."""

    def masks(self, scores: Scores, sparsity: float) -> dict[str, Tensor]:
        sizes = {name: tuple(s.shape) for name, s in scores.items()}
        kept = erdos_renyi_counts(sizes, sparsity)
        return {name: best(s, kept[name]) for name, s in scores.items()}


@dataclass(frozen=True)
class Given:
    """The density (0..1) of every layer by name, as found elsewhere; `sparsity` is not used.

    Raises
    ------
    InputError
        If a layer has no density, or one is outside 0..1.
    """

    densities: Mapping[str, float] = field(default_factory=dict)

    def masks(self, scores: Scores, sparsity: float) -> dict[str, Tensor]:
        if odd := sorted(set(scores) ^ set(self.densities)):
            raise InputError(f"densities: layers {odd} have none or do not exist; name every layer")
        for name, density in self.densities.items():
            if not 0 <= density <= 1:
                raise InputError(f"layer {name!r}: density {density:g}; give 0 to 1")
        return {
            name: best(s, kept_of(s.numel(), 1 - self.densities[name]))
            for name, s in scores.items()
        }


@dataclass(frozen=True)
class Ranked:
    """One ranking over all layers: the scores themselves decide how sparse a layer becomes."""

    def masks(self, scores: Scores, sparsity: float) -> dict[str, Tensor]:
        flat = torch.cat([s.detach().reshape(-1) for s in scores.values()])
        together = best(flat, kept_of(flat.numel(), sparsity))
        parts = together.split([s.numel() for s in scores.values()])
        return {
            n: p.reshape(s.shape).clone() for (n, s), p in zip(scores.items(), parts, strict=True)
        }


@dataclass(frozen=True)
class Lamp:
    """One ranking by ``w^2 / sum of all squares not smaller in its layer`` (LAMP, ICLR 2021, eq. 4).

    The scores given are magnitudes; the largest weight of every layer scores 1, so that none is
    emptied before all are down to one weight. Scores below 0 count as 0.
    """

    def masks(self, scores: Scores, sparsity: float) -> dict[str, Tensor]:
        return Ranked().masks({n: lamp_scores(s) for n, s in scores.items()}, sparsity)


def lamp_scores(magnitudes: Tensor) -> Tensor:
    """Layer-adaptive magnitude scores, shaped like the weight, float64."""
    squares = magnitudes.detach().double().reshape(-1).clamp(min=0).square()
    order = torch.argsort(squares, stable=True)
    ascending = squares[order]
    remaining = ascending.flip(0).cumsum(0).flip(0)
    scored = torch.where(remaining > 0, ascending / remaining.clamp(min=1e-300), 0.0)
    out = torch.empty_like(squares)
    out[order] = scored
    return out.reshape(magnitudes.shape)


def erdos_renyi_densities(
    sizes: Mapping[str, tuple[int, ...]], sparsity: float
) -> dict[str, float]:
    """``p_l = min(1, c sum(shape) / prod(shape))``, c solved so that the whole has the density.

    Layers that would pass 1 are dense; c is solved again over the others (RigL, appendix).
    """
    total = sum(math.prod(shape) for shape in sizes.values())
    budget = (1 - sparsity) * total
    dense: set[str] = set()
    while True:
        open_ = {n: shape for n, shape in sizes.items() if n not in dense}
        left = budget - sum(math.prod(sizes[n]) for n in dense)
        c = left / max(1, sum(sum(shape) for shape in open_.values()))
        full = {n for n, shape in open_.items() if c * sum(shape) > math.prod(shape)}
        if not full:
            break
        dense |= full
    return {n: 1.0 if n in dense else c * sum(s) / math.prod(s) for n, s in sizes.items()}


def erdos_renyi_counts(sizes: Mapping[str, tuple[int, ...]], sparsity: float) -> dict[str, int]:
    """Whole numbers of kept weights for `erdos_renyi_densities`."""
    densities = erdos_renyi_densities(sizes, sparsity)
    counts = {name: math.prod(shape) for name, shape in sizes.items()}
    exact = {name: densities[name] * count for name, count in counts.items()}
    return whole_counts(exact, counts, kept_of(sum(counts.values()), sparsity))


def whole_counts(exact: Mapping[str, float], most: Mapping[str, int], total: int) -> dict[str, int]:
    """Whole numbers that sum to `total`: floors, and the rest where the floor loses most.

    `exact` sums to `total` but for rounding, and none of it is above its `most`.
    """
    kept = {name: min(math.floor(value + 1e-6), most[name]) for name, value in exact.items()}
    while (missing := total - sum(kept.values())) != 0:
        step = 1 if missing > 0 else -1
        open_ = [n for n in kept if (kept[n] < most[n] if step > 0 else kept[n] > 0)]
        lost = sorted(open_, key=lambda name: step * (kept[name] - exact[name]))
        for name in lost[: abs(missing)]:
            kept[name] += step
    return kept
