"""The equality law: settled spikes give, on every adversarial image, the integer network's logits."""

import pytest
import torch
from torch import Tensor

from spikemorph import load_graph
from spikemorph.convert import certify
from spikemorph.graph.grid import Grid
from spikemorph.layers.integer_pass import IntegerPass
from spikemorph.prune import Lesson
from spikemorph.quant import Quantisation
from spikemorph.robust import Attack, Draws, Threat, attacks
from spikemorph.robust.attacks.apgd import Apgd
from spikemorph.robust.attacks.apgd_targeted import TargetedApgd
from spikemorph.robust.attacks.fgsm import Fgsm
from spikemorph.robust.attacks.momentum_pgd import MomentumPgd
from spikemorph.robust.attacks.pgd import Pgd
from spikemorph.robust.attacks.random_noise import Noise
from spikemorph.robust.attacks.refine import Refine
from spikemorph.robust.attacks.square import Square
from spikemorph.robust.attacks.stable_adaptive import StableAdaptivePgd
from spikemorph.robust.cascade.outcome import WorstCase
from spikemorph.robust.cascade.worst_case import worst_case
from spikemorph.robust.paths.exact import exact_target
from spikemorph.spiking import Coding, DenseEngine, Neuron, Schedule, SpikingNetwork
from spikemorph.spiking.coding import AnalogFirstStep, BitPlane
from spikemorph.spiking.neurons import STBIF, pow2
from spikemorph.train import DataTensors, TrainSettings
from spikemorph.training.quantisation_aware import train_converted
from spikemorph.zoo import load_data

_TRAIN, _TEST = load_data("digits:train"), load_data("digits:test")
X, Y = _TEST.values()[:24], _TEST.y[:24].long()  # type: ignore[index]
SEED, BITS = 5, 12


def made(neuron: Neuron, coding: Coding, schedule: Schedule) -> SpikingNetwork:
    """A network trained under quantisation for one epoch, and converted."""
    x, y = _TRAIN.values()[:300], _TRAIN.y[:300]  # type: ignore[index]
    lesson = Lesson(DataTensors(x, y), TrainSettings(epochs=1, rate=0.01))
    return train_converted(
        load_graph("zoo:digits_mlp").graph, x, lesson, grid=Grid.of(0.0, 1.0, BITS),
        quantisation=Quantisation(8), neuron=neuron, coding=coding, schedule=schedule,
    ).network  # fmt: skip


@pytest.fixture(
    scope="module",
    params=[
        (pow2(), AnalogFirstStep(), Schedule.FREE),
        (STBIF(), AnalogFirstStep(), Schedule.FREE),
        (pow2(), BitPlane(), Schedule.WAIT),
    ],
    ids=["pow2", "st-bif", "bit-plane"],
)
def network(request: pytest.FixtureRequest) -> SpikingNetwork:
    return made(*request.param)


def settled(network: SpikingNetwork, x: Tensor) -> Tensor:
    """(sample, class) integer outputs of the spiking network, run for as long as it may need."""
    steps = certify(network).steps_required
    assert steps is not None
    trace = DenseEngine(network, most_steps=steps).run(x, steps)
    return trace.outputs[-1].to(torch.int64)


def cascade(threat: Threat) -> tuple[Attack, ...]:
    return (
        Noise(threat, draws=3),
        Fgsm(threat),
        Pgd(threat, steps=3),
        Apgd(threat, steps=4, loss="ce"),
        Apgd(threat, steps=4, loss="dlr"),
        TargetedApgd(threat, steps=3, targets=2),
        MomentumPgd(threat, steps=3),
        StableAdaptivePgd(threat, steps=3),
        Square(threat, queries=20),
        Apgd(threat, steps=4, onward=True),
        Square(threat, queries=20, onward=True),
        Refine(threat, queries=20),
    )


@pytest.mark.parametrize(("norm", "eps"), [("linf", 8 / 255), ("linf", 48 / 255), ("l2", 1.0)])
def test_worst_case_images_have_equal_logits_and_robustness(
    network: SpikingNetwork, norm: str, eps: float
) -> None:
    """Every image kept, of broken samples and others; who stands is the same, sample by sample."""
    threat = Threat(norm, eps)  # type: ignore[arg-type]
    found = worst_case(
        exact_target("digits", network), cascade(threat), X, Y, Draws.of(SEED, torch.arange(len(X)))
    )
    assert_equal_on(network, found)


def assert_equal_on(network: SpikingNetwork, found: WorstCase) -> None:
    spikes = settled(network, found.adversarial)
    assert torch.equal(spikes, IntegerPass(network.graph)(found.adversarial))
    right = network.readout.real(spikes).flatten(1).argmax(1) == Y
    clean = network.readout.real(settled(network, X)).flatten(1).argmax(1) == Y
    assert torch.equal(clean, found.clean)
    assert torch.equal(clean & right, found.worst)
    if found.threat.eps > 0.1:
        assert not bool(found.worst.all())  # some were broken, or this says little


def test_all_images_of_all_attacks_by_all_paths_have_equal_logits(network: SpikingNetwork) -> None:
    """Each attack by itself, by each path, on every sample: nothing is left out for survivors."""
    target, integers = exact_target("digits", network), IntegerPass(network.graph)
    draws = Draws.of(SEED, torch.arange(8))
    seen = []
    for attack in cascade(Threat("linf", 24 / 255)):
        models = [path.logits for path in target.paths] if attack.gradients else [target.logits]
        for number, model in enumerate(models):
            seen.append(attack(model, X[:8], Y[:8], draws.fork(number)).detach())
    images = torch.cat(seen)
    assert len(seen) == 8 * len(target.paths) + 4
    assert torch.equal(settled(network, images), integers(images))
    logits = network.readout.real(integers(images)).flatten(1)
    assert torch.equal(target.logits(images), logits)


def test_every_attack_of_the_table_is_in_the_law() -> None:
    """Those left out are others' code or others' losses in the same loop."""
    named = {attack.name for attack in cascade(Threat("linf", 0.1))}
    assert set(attacks) - named <= {"fab-t", "ffgsm", "rfgsm", "pgd-cw", "pgd-dlr"}


def test_a_network_cut_short_is_told_apart(network: SpikingNetwork) -> None:
    """The law can fail: after one step the spiking network is another."""
    trace = DenseEngine(network, most_steps=1).run(X, 1)
    assert not torch.equal(trace.outputs[-1].to(torch.int64), IntegerPass(network.graph)(X))
