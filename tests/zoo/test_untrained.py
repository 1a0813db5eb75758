"""Architectures without shipped weights: their sizes as published, and every road open to them."""

import pytest
import torch
from torch import nn

from spikemorph.convert import canonical
from spikemorph.graph.grid import Grid
from spikemorph.prune.reinitialise import fresh
from spikemorph.quant import Quantisation
from spikemorph.quant.learning import QuantisedModule
from spikemorph.robust.training.objectives import FastAdversarial
from spikemorph.sources.models import load_graph, normalised
from spikemorph.surrogate import Dynamics
from spikemorph.surrogate.thresholds import Calibration
from spikemorph.surrogate.to_trainable import to_trainable
from spikemorph.train import GraphModule
from spikemorph.zoo import model_catalogue
from spikemorph.zoo.architectures import ARCHITECTURES, UNTRAINED, cifar_vgg16


def test_networks_without_weights_are_not_in_the_catalogue() -> None:
    assert not set(UNTRAINED) & set(ARCHITECTURES)
    assert not set(UNTRAINED) & {card.name for card in model_catalogue()}
    assert all(build.__name__ == name for name, build in UNTRAINED.items())


def test_vgg16_is_the_one_that_hydra_prunes() -> None:
    """arXiv 2505.15833: 276,992 neurons, 15,302,848 weights, 8,448 numbers of batch norms."""
    with torch.device("meta"):  # shapes are enough
        model = cifar_vgg16().eval()
        x = torch.zeros(1, 3, 32, 32)
    weights = {
        name: module.weight.numel()
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    }
    neurons = 0
    for module in model.children():
        x = module(x)
        neurons += x.numel() if isinstance(module, nn.ReLU) else 0
        if isinstance(module, nn.Flatten):
            assert x.shape == (1, 512 * 2 * 2)
    assert x.shape == (1, 10)
    assert sum(size for name, size in weights.items() if name.startswith("conv")) == 14_710_464
    assert sum(weights.values()) == 15_302_848
    assert neurons == 276_992
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert sum(p.numel() for norm in norms for p in norm.parameters()) == 8_448
    pools = [module for module in model.modules() if isinstance(module, nn.AvgPool2d)]
    assert (len(weights), len(norms), len(pools)) == (16, 13, 4)


@pytest.mark.slow
def test_vgg16_is_trained_against_attacks_quantised_and_run_in_time() -> None:
    source = "spikemorph.zoo.architectures:cifar_vgg16"
    read = load_graph(source, input_shape=(1, 3, 32, 32)).graph
    graph = normalised(read, (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
    draw = torch.Generator().manual_seed(0)
    x, y = torch.rand(16, 3, 32, 32, generator=draw), torch.randint(10, (16,), generator=draw)
    module = GraphModule(fresh(graph, draw)).train()
    before = module.weight("conv13").detach().clone()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01)
    loss = FastAdversarial(4 / 255, 5 / 255)(module, x, y, draw)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    assert bool(loss.isfinite())
    assert not torch.equal(module.weight("conv13"), before)
    trained = module.eval().to_graph()
    quantised = QuantisedModule(
        canonical(trained), x, Grid.of(0.0, 1.0, bits=12), Quantisation(16, 8)
    )
    in_time = to_trainable(trained, Dynamics(2), x[:4], Calibration(steps=2))
    with torch.no_grad():
        assert bool((quantised(x).argmax(1) == module(x).argmax(1)).double().mean() > 0.5)
        assert in_time(x[:2]).shape == (2, 10)
    assert len(in_time.thresholds) == 15
