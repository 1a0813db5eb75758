"""Laws of adversarial objectives: worst images in closed form, what is left alone, what is refused."""

import math
from collections.abc import Callable

import pytest
import torch
from lightning_fabric import Fabric
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from spikemorph.graph import Graph, InputError
from spikemorph.layers.activation import ReLU
from spikemorph.layers.linear import Linear
from spikemorph.robust.training.inner_attack import Ascent, draws_of
from spikemorph.robust.training.objectives import (
    FastAdversarial,
    Mart,
    PgdTraining,
    RfgsmKl,
    Trades,
)
from spikemorph.train import DataTensors, GraphModule, Objective, TrainSettings, fit
from spikemorph.train.masked import Masked

EPS = 0.1
ALL: dict[str, Objective] = {
    "pgd": PgdTraining(EPS, 3, 0.08),
    "fast": FastAdversarial(EPS, 0.125),
    "trades": Trades(EPS, 3, 0.08),
    "mart": Mart(EPS, 3, 0.08),
    "rfgsm": RfgsmKl(EPS, EPS / 2),
}
each = pytest.mark.parametrize("name", ALL)


def seeded(seed: int = 0) -> Generator:
    return torch.Generator().manual_seed(seed)


def batch(count: int = 12, size: int = 5) -> tuple[Tensor, Tensor]:
    """Images at least EPS from the ends of [0, 1], and labels of two classes."""
    return EPS + (1 - 2 * EPS) * torch.rand(count, size, generator=seeded(1)), torch.arange(
        count
    ) % 2


class Line(nn.Module):
    """Logits (0, w x): class 1 has probability sigmoid(w x); keeps what it was shown."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x.detach())
        return torch.stack([torch.zeros(len(x)), x @ self.weight], 1)


def line(size: int = 5) -> Line:
    return Line(torch.randn(size, generator=seeded(2)))


def normed() -> nn.Sequential:
    """Batch norm and dropout, so that modes matter."""
    torch_state = torch.get_rng_state()
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 2)
    )
    torch.set_rng_state(torch_state)
    return model


def worst(model: Line, x: Tensor, y: Tensor) -> Tensor:
    """The corner of the cube at which a linear network is most wrong."""
    return x + EPS * (1 - 2 * y.float())[:, None] * model.weight.detach().sign()


@pytest.mark.parametrize("loss", [PgdTraining(EPS, 3, 0.08), FastAdversarial(EPS, 2 * EPS)])
def test_a_linear_network_is_attacked_in_its_worst_corner(loss: Objective) -> None:
    """Steps of 2 eps or more in all reach the corner from every start."""
    model, (x, y) = line(), batch()
    found = loss(model, x, y, seeded())
    torch.testing.assert_close(found, F.cross_entropy(model(worst(model, x, y)), y))


def test_trades_by_the_formula_with_gradients_through_both_sides() -> None:
    """x~ is what the network saw last; the loss and its gradient are recomputed from it."""
    model, (x, y) = line(), batch()
    loss = Trades(EPS, 3, 0.08, beta=2.5)(model, x, y, seeded())
    found = model.seen[-1]
    assert torch.allclose((found - x).abs(), torch.tensor(EPS))  # in a corner
    (gradient,) = torch.autograd.grad(loss, model.weight)
    clean, bad = model(x).softmax(1), model(found).softmax(1)
    apart = (clean * (clean / bad).log()).sum(1).mean()
    wanted = F.cross_entropy(model(x), y) + 2.5 * apart
    torch.testing.assert_close(loss, wanted)
    torch.testing.assert_close(gradient, torch.autograd.grad(wanted, model.weight)[0])


def test_rfgsm_is_a_random_step_and_one_step_along_the_divergence() -> None:
    """Gradient of KL(p || p1) in x1 has the sign of (w x1 - w x) w, logits being (0, w x)."""
    model, (x, y) = line(), batch()
    RfgsmKl(EPS, 0.04)(model, x, y, seeded(3))
    first = x + 0.06 * draws_of(x, seeded(3)).signs(5)
    weight = model.weight.detach()
    found = first + 0.04 * ((first - x) @ weight).sign()[:, None] * weight.sign()
    torch.testing.assert_close(model.seen[-1], found)


class Fixed(nn.Module):
    """Gives the same logits for every sample."""

    def __init__(self, *logits: float) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))

    def forward(self, x: Tensor) -> Tensor:
        return self.logits.expand(len(x), -1)


def test_mart_by_hand() -> None:
    """p = (1/2, 1/4, 1/4), clean and attacked alike: no divergence; the best other class has 1/4."""
    y = torch.zeros(4, dtype=torch.int64)
    loss = Mart(EPS, 1, 0.1)(Fixed(math.log(2), 0.0, 0.0), torch.zeros(4, 1), y, seeded())
    assert float(loss.detach()) == pytest.approx(math.log(2) - math.log(1.0001 - 0.25), abs=1e-6)


def test_mart_weighs_the_divergence_by_doubt() -> None:
    model, (x, y) = line(), batch()
    loss = Mart(EPS, 3, 0.08, beta=3.0)(model, x, y, seeded())
    clean, bad = model(x).softmax(1), model(worst(model, x, y)).softmax(1)
    label, other = (bad.gather(1, k[:, None])[:, 0] for k in (y, 1 - y))
    doubt = 1 - clean.gather(1, y[:, None])[:, 0]
    apart = (clean * (clean / bad).log()).sum(1)
    wanted = (-label.log() - (1.0001 - other).log() + 3 * apart * doubt).mean()
    torch.testing.assert_close(loss, wanted)


@each
def test_the_attacker_stays_in_the_cube_and_in_range(name: str) -> None:
    """Images at the ends of the range: clipping must act."""
    model = line()
    x = torch.rand(20, 5, generator=seeded(4)).round()
    ALL[name](model, x, torch.arange(20) % 2, seeded())
    for image in model.seen:
        assert ((image >= 0) & (image <= 1)).all()
        assert ((image - x).abs() <= EPS + 1e-6).all()
    assert (model.seen[-1] != x).any()


@each
def test_modes_gradients_and_global_randomness_are_left_alone(name: str) -> None:
    """One module stays frozen in evaluation mode while the rest trains."""
    model, (x, y) = normed().train(), batch()
    model[1].eval()
    frozen = model[1].running_mean.clone()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    state = torch.get_rng_state()
    with torch.random.fork_rng([]):
        ALL[name](model, x, y, seeded())
    assert torch.equal(torch.get_rng_state(), state)
    assert [m.training for m in model] == [True, False, True, True, True]
    assert torch.equal(model[1].running_mean, frozen)
    assert all(torch.equal(p.grad, torch.ones_like(p)) for p in model.parameters())  # type: ignore[arg-type]


@each
def test_statistics_are_those_of_the_loss_alone(name: str) -> None:
    """The attack is in evaluation mode: one pass in training for pgd and fast, two for the others."""
    model, (x, y) = normed().train(), batch()
    ALL[name](model, x, y, seeded())
    assert int(model[1].num_batches_tracked) == (1 if name in ("pgd", "fast") else 2)


def test_modes_come_back_after_an_error() -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError("broken")

    model, (x, y) = Broken().train(), batch()
    with pytest.raises(RuntimeError, match="broken"):
        PgdTraining(EPS, 1, 0.1)(model, x, y, seeded())
    assert model.training


@each
def test_draws_come_from_the_generator_and_move_it_by_one_number(name: str) -> None:
    """So a run that is stopped goes on alike, and processes with unequal shares stay in step."""
    losses, states = [], []
    for count, seed in ((12, 0), (12, 0), (7, 0), (12, 9)):
        generator, (x, y) = seeded(seed), batch(count)
        losses.append(float(ALL[name](normed().eval(), x, y, generator).detach()))
        states.append(generator.get_state())
    assert losses[0] == losses[1]
    if name in ("fast", "rfgsm"):  # several steps reach the same corner from everywhere
        assert losses[0] != losses[3]
    assert torch.equal(states[0], states[2])


@each
def test_half_precision_trains_every_layer(name: str) -> None:
    """Under Fabric's bf16 all weights get gradients, which weights kept by autocast could lose."""
    model, (x, y) = normed(), batch()
    before = {key: value.clone() for key, value in model.named_parameters()}
    fabric = Fabric(accelerator="cpu", devices=1, precision="bf16-mixed")
    settings = TrainSettings(epochs=1, batch=6, rate=0.1, decay=0.0, warmup=0.0)
    fit(model, DataTensors(x, y), settings, objective=ALL[name], fabric=fabric)
    layers = [key for key in before if key != "0.bias"]  # the batch norm behind it takes it away
    assert all(not torch.equal(before[key], dict(model.named_parameters())[key]) for key in layers)
    assert all(torch.isfinite(p).all() for p in model.parameters())


@each
def test_the_attack_leaves_no_trace_in_noted_gradients(
    chain: Callable[..., Graph], name: str
) -> None:
    """RigL grows by the gradient of the loss: the attack's own passes must not be in it."""
    draw = torch.randn(6, 5, generator=seeded(5))
    graph = chain((5,), Linear(draw, None), ReLU(), Linear(draw[:2].repeat(1, 2)[:, :6], None))
    mask = torch.arange(30).reshape(6, 5) % 2 == 0
    module = GraphModule(graph, {"n0": Masked(mask, noting=True)}).train()
    x, y = batch()
    loss = ALL[name](module, x, y, seeded())
    layer = module.transform("n0")
    assert isinstance(layer, Masked)
    assert layer.dense_gradient is None
    loss.backward()
    noted, learnt = layer.dense_gradient, module.weight("n0").grad
    assert noted is not None and learnt is not None
    torch.testing.assert_close(noted * mask, learnt)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PgdTraining(8, 10, 2 / 255), "did you mean 8/255"),
        (lambda: Trades(0.0, 10, 0.01), "eps 0: adversarial training needs one above 0"),
        (lambda: Trades(math.nan, 10, 0.01), "eps nan"),
        (lambda: Mart(EPS, 0, 0.01), "0 attack steps: give 1 or more"),
        (lambda: FastAdversarial(EPS, 10.0), "step size 10: give a part"),
        (lambda: RfgsmKl(EPS, EPS), "the random step takes the rest"),
        (lambda: Trades(EPS, 1, EPS, beta=-1.0), "beta -1"),
        (lambda: PgdTraining(EPS, 1, EPS, smoothing=2.0), "smoothing 2"),
        (lambda: Ascent(EPS, 1, math.nan), "step size nan"),
    ],
)
def test_numbers_that_cannot_be_meant_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


@each
def test_inputs_outside_the_range_are_refused(name: str) -> None:
    x, y = batch()
    x[3, 0] = 1.5
    with pytest.raises(InputError, match=r"sample 3: .* put the normalisation inside the model"):
        ALL[name](line(), x, y, seeded())
