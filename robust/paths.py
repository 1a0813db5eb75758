"""The gradient paths of a spiking network that was trained through time, strongest first."""

import torch
from torch import Tensor

from spikemorph.surrogate import Backward, SpikingModule
from spikemorph.surrogate.gradients import (
    Exponential,
    PiecewiseLinear,
    Rectangular,
    StraightThrough,
)
from spikemorph.surrogate.layerwise import (
    Adaptive,
    RateGradient,
    RateThrough,
    TimeAveraged,
    per_sample,
)
from spikemorph.surrogate.replacement import Clipped, Rectified, Replacement

from .target import GradientPath, Target

Rule = Backward | Replacement


def paper_paths() -> dict[str, Rule]:
    """The 19 of Schmolli et al., CPAL 2025, appendix A.3, in the order of their table A1.

    Five piecewise-linear (``pcw WIDTH``), six exponential (``exp SCALE RATE``), five rectangular
    (``rect WIDTH``), straight-through (``ste``), back-propagation through rates (``bptr``) and
    replacement by ReLU (``act``); the order is by the accuracy that a single step leaves.
    """
    return {
        "exp 0.3 2": Exponential(0.3, 2.0),
        "exp 1 2": Exponential(1.0, 2.0),
        "pcw 1": PiecewiseLinear(1.0),
        "pcw 0.5": PiecewiseLinear(0.5),
        "bptr": RateThrough(),
        "rect 1": Rectangular(1.0),
        "exp 0.3 1": Exponential(0.3, 1.0),
        "pcw 2": PiecewiseLinear(2.0),
        "exp 1 1": Exponential(1.0, 1.0),
        "rect 0.5": Rectangular(0.5),
        "act": Rectified(),
        "rect 2": Rectangular(2.0),
        "pcw 3": PiecewiseLinear(3.0),
        "exp 0.3 0.5": Exponential(0.3, 0.5),
        "exp 1 0.5": Exponential(1.0, 0.5),
        "rect 4": Rectangular(4.0),
        "pcw 0.25": PiecewiseLinear(0.25),
        "rect 0.25": Rectangular(0.25),
        "ste": StraightThrough(),
    }


def extra_paths() -> dict[str, Rule]:
    """Paths that the 19 lack.

    Widths that fit each layer (``adaptive``), gradients averaged over time (``hart``), of rates in
    mean currents (``rga``), and replacement by clipped ramps (``clip``).
    """
    return {
        "adaptive": Adaptive(),
        "hart": TimeAveraged(),
        "rga": RateGradient(),
        "clip": Clipped(),
    }


def training_path(module: SpikingModule) -> str:
    """The name of the path that the network was trained by: ``trained`` if it has no other."""
    known = {**paper_paths(), **extra_paths()}
    return next((name for name, rule in known.items() if rule == module.surrogate), "trained")


def spiking_target(
    name: str, module: SpikingModule, rules: dict[str, Rule] | None = None
) -> Target:
    """The network in evaluation, open to attack by all paths, or by the given ones, in their order.

    The surrogate that it was trained with is added in front, as ``trained``, where no path is it:
    an attacker knows it. The module's mode, weights and statistics are left alone.
    """
    known = {**paper_paths(), **extra_paths()} if rules is None else rules
    if rules is None and training_path(module) not in known:
        known = {"trained": module.surrogate, **known}
    paths = tuple(
        GradientPath(path, module.logits_by(rule), exact=not isinstance(rule, Replacement))
        for path, rule in known.items()
    )
    own = tuple(known.values())
    return Target(
        name,
        module.logits_by(module.surrogate),
        paths,
        lambda x, which: _mixed(module, own, x, which),
    )


def _mixed(module: SpikingModule, rules: tuple[Rule, ...], x: Tensor, which: Tensor) -> Tensor:
    """(sample, class) logits, the gradient of sample k going by ``rules[which[k]]``.

    All exact rules share one run; each replacement runs its samples by itself.
    """
    which = which.to(x.device)
    spiking = tuple(rule for rule in rules if not isinstance(rule, Replacement))
    place = torch.tensor([spiking.index(r) if r in spiking else -1 for r in rules]).to(which)
    parts, order = [], []
    shared = (place[which] >= 0).nonzero()[:, 0]
    if len(shared):
        rule = per_sample(spiking, place[which[shared]])
        parts.append(module.logits_by(rule)(x[shared]))
        order.append(shared)
    for index, replacement in enumerate(rules):
        rows = (which == index).nonzero()[:, 0]
        if isinstance(replacement, Replacement) and len(rows):
            parts.append(module.logits_by(replacement)(x[rows]))
            order.append(rows)
    return torch.cat(parts)[torch.cat(order).argsort()]
