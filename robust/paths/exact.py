"""An exactly converted network under attack: the settled spikes' outputs, its twin's gradients."""

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from spikemorph.graph import InputError
from spikemorph.layers.integer_pass import IntegerPass
from spikemorph.layers.readout import Readout
from spikemorph.quant.twin import IntegerTwin
from spikemorph.quant.twin_rules import Rule, Smoothed, StraightThrough, Unrounded
from spikemorph.spiking import SpikingNetwork

from ..target import GradientPath, Target, by_rows, through

# Gradient paths by their names in tables; the first is what the network was trained with.
RULES: tuple[tuple[str, Rule], ...] = (
    ("straight-through", StraightThrough()),
    ("smoothed 1", Smoothed(1.0)),
    ("smoothed 0.5", Smoothed(0.5)),
    ("smoothed 0.25", Smoothed(0.25)),
    ("smoothed 2", Smoothed(2.0)),
    ("clip", Unrounded(clipped=True)),
    ("relu", Unrounded(clipped=False)),
)


def exact_target(
    name: str, network: SpikingNetwork, rules: tuple[tuple[str, Rule], ...] = RULES
) -> Target:
    """The target that a network is whose settled spikes equal its integer pass.

    On the CPU it is judged by the integer pass, which equals the settled spiking network; on other
    devices by the twin, which equals the integer pass bit for bit. Inputs in [0, 1] are rounded to the
    network's grid, so an attack on a coarse grid (8 bits) also needs one on a fine grid (12 or more).
    A final softmax, sigmoid or tanh is left off, which keeps the order: attacks take logits.

    Raises
    ------
    InputError
        If the network is rate-coded, so never equals its integer pass.
    """
    if network.rate_coded:
        raise InputError(
            f"{name}: a rate-coded network does not settle to its integer pass; attack it in time, or "
            "convert it exactly"
        )
    readout = network.readout
    logits = Readout(readout.factors, readout.unit)
    graph = network.graph
    (last,) = graph.outputs
    twin = IntegerTwin(graph.map(lambda n: n if n.name != last else replace(n, op=logits)))
    settled = IntegerPass(network.graph)

    def judge(x: Tensor) -> Tensor:
        with torch.no_grad():
            if x.device.type == "cpu":
                return logits.real(settled(x))
            return twin(x, StraightThrough())

    paths = tuple(_path(n, twin, rule) for n, rule in rules)
    alone = {k: path.logits for k, path in enumerate(paths) if path.stand_in}
    every = tuple(rule for _, rule in rules)

    def mixed(x: Tensor, which: Tensor) -> Tensor:
        return by_rows(x, which, lambda x, which: twin.mixed(x, every, which), alone)

    grid = network.grid
    return Target(name, judge, paths, mixed, input_step=1 / (grid.high - grid.low))


def _path(name: str, twin: IntegerTwin, rule: Rule) -> GradientPath:
    logits = partial(twin, rule=rule)
    if rule.exact:
        return GradientPath(name, logits)
    return GradientPath(name, through(partial(twin, rule=StraightThrough()), logits), stand_in=True)
