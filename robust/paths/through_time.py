"""The gradient paths of a spiking network that was trained through time, strongest first."""

from functools import partial

import torch
from torch import Tensor

from spikemorph.graph import Graph
from spikemorph.graph.traits import Pools
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
from spikemorph.surrogate.membranes import Detached, MembranePooled
from spikemorph.surrogate.replacement import Clipped, Rectified, Replacement
from spikemorph.surrogate.sharpness import AdaptiveSharpness

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


def strongest_paths(*, pooled: bool) -> dict[str, Rule]:
    """What broke most of shipped networks by itself, strongest first: run before all others.

    Exponential surrogates of widths that go with the threshold, resets detached (``detached``), or with
    each neuron's membrane over an attack's run (``assg``); `pooled`: where max-pools read spikes,
    gradients pass them by the membranes (``... pooled``).
    """
    plain: dict[str, Backward] = {
        "detached 0.5": Detached(0.5),
        "detached 0.25": Detached(0.25),
        "exp 0.3 2": Exponential(0.3, 2.0),
        "assg": AdaptiveSharpness(),
    }
    first: dict[str, Rule] = (
        {f"{name} pooled": MembranePooled(rule) for name, rule in plain.items()}
        if pooled
        else {name: rule for name, rule in plain.items() if name not in paper_paths()}
    )
    return {**first, "adaptive": Adaptive(), "clip": Clipped()}


def all_paths(graph: Graph) -> dict[str, Rule]:
    """What there is for a network of this graph, strongest first."""
    pooled = any(isinstance(node.op, Pools) and node.op.picks for node in graph.nodes)
    return {**strongest_paths(pooled=pooled), **paper_paths(), **extra_paths()}


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
    known = all_paths(module.graph) if chosen is None else chosen
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
    inner = rule.rule if isinstance(rule, MembranePooled) else rule
    if isinstance(inner, AdaptiveSharpness):
        begin = partial(_remembering, module, inner, pooled=inner is not rule)
        return GradientPath(name, logits, begin=begin)
    return GradientPath(name, logits)


def _remembering(module: SpikingModule, rule: AdaptiveSharpness, *, pooled: bool) -> Logits:
    """The network for one run of an attack."""
    run = rule.begin()
    inner = module.logits_by(MembranePooled(run) if pooled else run)

    def logits(x: Tensor) -> Tensor:
        run.again()
        return inner(x)

    return logits
