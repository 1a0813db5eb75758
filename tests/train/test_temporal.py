"""Laws of the penalty on changes of states."""

import pytest
import torch
from torch import Tensor, nn

from spikemorph.graph.errors import InputError
from spikemorph.train import CrossEntropy, DataTensors, TrainSettings, fit, initialised
from spikemorph.train.temporal import Elements, TemporalSparsity, heard_states

NONE = torch.Generator()


class Recurrent(nn.Module):
    """A recurrent layer of torch, and what passes a marker behind it."""

    def __init__(self, first: bool = True) -> None:
        super().__init__()
        self.first = first
        self.layer = nn.GRU(2, 3, batch_first=first)
        self.marked = Elements(axis=1 if first else 0, unit=0.5)
        self.head = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.first else x.transpose(0, 1)
        made = self.marked(self.layer(x)[0])
        return self.head(made[:, -1] if self.first else made[-1])


def made(first: bool = True) -> Recurrent:
    model = initialised(lambda: Recurrent(first), torch.Generator().manual_seed(0))
    assert isinstance(model, Recurrent)
    return model


def batch() -> tuple[Tensor, Tensor]:
    x = torch.rand(4, 5, 2, generator=torch.Generator().manual_seed(1))
    return x, torch.arange(4) % 2


@pytest.mark.parametrize("first", [True, False])
def test_the_penalty_is_the_mean_change_of_every_state(first: bool) -> None:
    """Counted one by one; the marked copy, in steps of one half, counts twice as much again."""
    model, (x, y) = made(first), batch()
    clean = CrossEntropy()(model, x, y, NONE).detach()
    h = model.layer(x if first else x.transpose(0, 1))[0].detach()
    h = h if first else h.transpose(0, 1)
    total = sum(
        abs(float(h[n, t, k]) - (float(h[n, t - 1, k]) if t else 0.0))
        for n in range(4) for t in range(5) for k in range(3)
    )  # fmt: skip
    found = TemporalSparsity(CrossEntropy(), 0.3)(model, x, y, NONE).detach()
    assert float(found - clean) == pytest.approx(0.3 * 3 * total / 60, rel=1e-4)


def test_training_with_it_calms_the_states() -> None:
    x, y = batch()
    data, settings = DataTensors(x, y), TrainSettings(epochs=30, batch=4, rate=0.1, decay=0.0)
    moved = []
    for weight in (0.0, 3.0):
        model = made()
        fit(model, data, settings, objective=TemporalSparsity(CrossEntropy(), weight))
        with heard_states(model) as states, torch.no_grad():
            model(x)
        h = states["layer"][0]
        moved.append(float(h.diff(dim=1).abs().mean()))
    assert moved[1] < 0.5 * moved[0]


def test_it_leaves_the_network_as_it_was_and_refuses_one_without_states() -> None:
    model, (x, y) = made(), batch()
    TemporalSparsity(CrossEntropy(), 1.0)(model, x, y, NONE)
    assert not any(module._forward_hooks for module in model.modules())
    flat = nn.Sequential(nn.Flatten(), nn.Linear(10, 2))
    with pytest.raises(InputError, match="no recurrent layer"):
        TemporalSparsity(CrossEntropy(), 1.0)(flat, x, y, NONE)
    with pytest.raises(InputError, match="temporal sparsity -1"):
        TemporalSparsity(CrossEntropy(), -1.0)
