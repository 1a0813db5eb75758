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

from ..target import GradientPath, Logits, Target, by_rows, through

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
    name: str, module: SpikingModule, chosen: dict[str, Rule] | None = None
) -> Target:
    """The network in evaluation, open to attack by all paths, or by the given ones, in their order.

    The surrogate that it was trained with is added in front, as ``trained``, where no path is it:
    an attacker knows it. The module's mode, weights and statistics are left alone.
    """
    known = {**paper_paths(), **extra_paths()} if chosen is None else chosen
    if chosen is None and training_path(module) not in known:
        known = {"trained": module.surrogate, **known}
    own = module.logits_by(module.surrogate)
    paths = tuple(_path(path, own, module, rule) for path, rule in known.items())
    rules = tuple(known.values())
    alone = {k: path.logits for k, path in enumerate(paths) if path.stand_in}
    spiking = [rule for rule in rules if not isinstance(rule, Replacement)]
    place = torch.tensor([spiking.index(r) if r in spiking else -1 for r in rules])

    def shared(x: Tensor, which: Tensor) -> Tensor:
        return module.logits_by(per_sample(tuple(spiking), place.to(which)[which]))(x)

    return Target(name, own, paths, lambda x, which: by_rows(x, which, shared, alone))


def _path(name: str, own: Logits, module: SpikingModule, rule: Rule) -> GradientPath:
    logits = module.logits_by(rule)
    if isinstance(rule, Replacement):
        return GradientPath(name, through(own, logits), stand_in=True)
    return GradientPath(name, logits)
