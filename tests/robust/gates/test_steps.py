"""The gate on time steps: images made for a run of another length must not do better."""

from functools import cache

import torch
from torch import Tensor

from spikemorph.robust import GradientPath, Target, Threat
from spikemorph.robust.gates.context import Companions, GateContext, GateSettings, Samples
from spikemorph.robust.gates.gate import Gate, gates
from spikemorph.robust.paths.through_time import spiking_target
from spikemorph.sources.models import load_graph
from spikemorph.surrogate import Calibration, Dynamics, SpikingModule, to_trainable
from spikemorph.surrogate.gradients import Rectangular
from spikemorph.surrogate.replacement import Rectified
from spikemorph.zoo import load_data

QUICK = GateSettings(samples=16, steps=5, sweep_steps=3, convergence=(3, 5))


@cache
def network() -> SpikingModule:
    shown = load_data("digits:train:64").values()
    graph = load_graph("zoo:digits_mlp").graph
    return to_trainable(graph, Dynamics(4), shown, Calibration(steps=16))


def judged(target: Target, *others: Target) -> Gate:
    few = load_data("digits:test:16")
    assert few.y is not None
    samples = Samples(few.values(), few.y, torch.arange(16))
    companions = Companions(other_steps=others)
    context = GateContext(target, samples, Threat("linf", 0.1), 0, QUICK, companions)
    return gates["time-steps"](context)


def test_honest_gradients_do_best_at_the_networks_own_length() -> None:
    rule = {"rect 1": Rectangular(1.0)}
    others = [spiking_target(f"T = {t}", network().lasting(t), rule) for t in (2, 8)]
    found = judged(spiking_target("digits", network(), rule), *others)
    assert found.passed is True, found.detail
    assert "T = 2 leaves" in found.detail and "T = 8 leaves" in found.detail


def test_a_network_that_hides_its_gradient_at_its_own_length_trips() -> None:
    """The same network; the attacker is offered no slope at T = 4 and a wide one at T = 8."""
    honest = {"rect 1": Rectangular(1.0)}
    shut = network().logits_by(Rectangular(1e-6))
    masked = Target("masked", shut, (GradientPath("rect 1", shut),))
    found = judged(masked, spiking_target("T = 8", network().lasting(8), honest))
    assert found.passed is False, found.detail
    assert found.exceptions


def test_it_says_where_there_is_no_other_length() -> None:
    def linear(x: Tensor) -> Tensor:
        return x.flatten(1)[:, :10]

    found = judged(Target("linear", linear, (GradientPath("own", linear),)))
    assert found.passed is None
    assert "does not run through time" in found.detail


def test_stand_ins_do_not_count_as_running_through_time() -> None:
    """They rank first, and take the same way at every length."""
    honest, shut = Rectangular(1.0), network().logits_by(Rectangular(1e-6))
    masked = Target(
        "masked",
        shut,
        (
            GradientPath("act", network().logits_by(honest), stand_in=True),
            GradientPath("rect 1", shut),
        ),
    )
    other = spiking_target("T = 8", network().lasting(8), {"rect 1": honest, "act": Rectified()})
    found = judged(masked, other)
    assert "path rect 1 at other T" in found.detail
    only = Target("only", shut, masked.paths[:1])
    assert judged(only, other).passed is None
