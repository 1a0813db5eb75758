"""Channels that a model pads with zeros, behind sums and behind activations; constants in `forward`."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikemorph import convert_graph
from spikemorph.convert import canonical, read_torch
from spikemorph.graph import run
from spikemorph.graph.grid import Grid
from spikemorph.layers.integer_pass import IntegerPass
from spikemorph.quant import Quantisation
from spikemorph.spiking import DenseEngine


class Padded(nn.Module):
    """Four channels padded to six: then joined with another sum, or given to an activation."""

    def __init__(self, *, joined: bool) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.beside = nn.Conv2d(1, 6, 3, padding=1) if joined else None
        self.head = nn.Linear(6 * 36, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = F.pad(self.first(x), (0, 0, 0, 0, 1, 1))
        if self.beside is not None:
            y = y + self.beside(x)
        return self.head(torch.relu(y).flatten(1))


class Normalised(nn.Module):
    """Divides by numbers that `forward` writes down."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(x / torch.tensor([1.0, 2.0, 4.0, 8.0])))


@pytest.mark.parametrize("joined", [False, True])
def test_padded_sums_convert_exactly(joined: bool) -> None:
    torch.manual_seed(0)
    x = torch.rand(12, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    graph = read_torch(Padded(joined=joined).eval(), x[:1])
    found = convert_graph(graph, x, grid=Grid.of(0.0, 1.0), quantisation=Quantisation())
    assert found.certificate.level == "A" and found.certificate.steps_required is not None
    trace = DenseEngine(found.network).run(x, found.certificate.steps_required)
    assert torch.equal(trace.outputs[-1].long(), IntegerPass(found.network.graph)(x).long())


class Normed(nn.Module):
    """A batch norm behind an activation, and channels of zeros added behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.head = nn.Linear(6 * 36, 3)
        for tensor in (self.norm.running_mean, self.norm.bias):
            tensor.data.copy_(torch.tensor([0.1, -0.2, 0.3, 0.0]))  # type: ignore[union-attr]

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(torch.relu(self.first(x)))
        return self.head(F.pad(y, (0, 0, 0, 0, 1, 1)).flatten(1))


def test_scales_stop_at_new_channels() -> None:
    torch.manual_seed(0)
    model, x = Normed().eval(), torch.rand(12, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    graph = canonical(read_torch(model, x[:1]))
    torch.testing.assert_close(run(graph, x), model(x), rtol=1e-4, atol=1e-5)


def test_constants_of_forward_are_read() -> None:
    x, model = torch.rand(5, 4, generator=torch.Generator().manual_seed(0)), Normalised().eval()
    torch.testing.assert_close(run(read_torch(model, x[:1]), x), model(x))
