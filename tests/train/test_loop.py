"""Laws of the training loop."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import assert_same
from lightning_fabric import Fabric
from safetensors.torch import save
from torch import Generator, Tensor, nn

from spikemorph.graph.errors import InputError
from spikemorph.train import (
    CrossEntropy,
    DataTensors,
    FlipAndShift,
    TrainSettings,
    accuracy,
    fit,
    hold_out,
    initialised,
)
from spikemorph.train.averaging import Average, Ema, Swa
from spikemorph.train.checkpoint import load_checkpoint, save_checkpoint
from spikemorph.train.loop import DivergenceError, EpochRecord
from spikemorph.train.objectives import Distillation

SETTINGS = TrainSettings(epochs=4, batch=16, rate=0.05)


def images(count: int = 100) -> DataTensors:
    """Bright upper halves are class 0, bright lower halves class 1."""
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(count, 1, 6, 6, generator=generator) * 0.5
    y = torch.arange(count) % 2
    x[y == 0, :, :3] += 0.5
    x[y == 1, :, 3:] += 0.5
    return DataTensors(x, y)


def network(seed: int = 0) -> nn.Module:
    """A convolution, batch norm and dropout, so that every kind of state takes part."""

    def build() -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Dropout(0.3),
            nn.Flatten(),
            nn.Linear(4 * 36, 2),
        )

    return initialised(build, torch.Generator().manual_seed(seed))


class Stop(Exception):
    """Raised in the middle of a run."""


def test_loss_falls_and_the_network_learns() -> None:
    model = network()
    records = fit(model, images(), SETTINGS)
    assert [record.epoch for record in records] == [1, 2, 3, 4]
    assert records[-1].loss < records[0].loss / 2
    assert accuracy(model, images()) >= 95
    assert not model.training


@pytest.mark.parametrize("stopped_after", [1, 3])
def test_a_stopped_run_ends_with_the_same_bits(tmp_path: Path, stopped_after: int) -> None:
    whole = network()
    expected = fit(whole, images(), SETTINGS, augment=FlipAndShift())

    def stop(record: EpochRecord) -> None:
        if record.epoch == stopped_after:
            raise Stop

    path = tmp_path / "run.checkpoint"
    with pytest.raises(Stop):
        fit(network(), images(), SETTINGS, augment=FlipAndShift(), checkpoint=path, on_epoch=stop)
    resumed = network()
    records = fit(resumed, images(), SETTINGS, augment=FlipAndShift(), checkpoint=path)
    assert_same(resumed, whole)
    assert [record.loss for record in records] == [record.loss for record in expected]


def test_a_finished_run_is_only_read_back(tmp_path: Path) -> None:
    path = tmp_path / "run.checkpoint"
    first, second = network(), network()
    fit(first, images(), SETTINGS, checkpoint=path)
    before = path.read_bytes()
    fit(second, images(), SETTINGS, checkpoint=path)
    assert_same(first, second)
    assert path.read_bytes() == before


def test_the_global_generator_neither_decides_nor_moves() -> None:
    first, second = network(), network()
    torch.manual_seed(5)
    state = torch.get_rng_state()
    fit(first, images(), SETTINGS, augment=FlipAndShift())
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(6)
    fit(second, images(), SETTINGS, augment=FlipAndShift())
    assert_same(first, second)


def test_another_seed_gives_another_network() -> None:
    first, second = network(), network()
    fit(first, images(), SETTINGS)
    fit(second, images(), TrainSettings(epochs=4, batch=16, rate=0.05, seed=1))
    assert not torch.equal(first[0].weight, second[0].weight)


def test_first_weights_come_from_the_generator_alone() -> None:
    state = torch.get_rng_state()
    assert_same(network(3), network(3))
    assert torch.equal(torch.get_rng_state(), state)
    wide = initialised(lambda: nn.Linear(400, 500), torch.Generator().manual_seed(0))
    assert wide.weight.std().item() == pytest.approx(math.sqrt(2 / 400), rel=0.02)
    assert not wide.bias.any()


def test_a_layer_without_first_weights_is_named() -> None:
    with pytest.raises(InputError, match=r"module '0' is a PReLU"):
        initialised(lambda: nn.Sequential(nn.PReLU()), torch.Generator())


class ExplodeAt:
    """Cross-entropy until a given call, then no number."""

    def __init__(self, call: int) -> None:
        self.left = call

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, generator: Generator) -> Tensor:
        self.left -= 1
        factor = math.nan if self.left == 0 else 1.0
        return factor * CrossEntropy()(model, x, y, generator)


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    """100 samples in batches of 16 are 6 steps an epoch, so call 9 is epoch 2, step 3."""
    path = tmp_path / "run.checkpoint"
    model = network()
    said = r"epoch 2, step 3: the loss is nan.*run\.checkpoint keeps the weights of epoch 1"
    with pytest.raises(DivergenceError, match=said):
        fit(model, images(), SETTINGS, objective=ExplodeAt(9), checkpoint=path)
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())
    state = load_checkpoint(path)
    assert [record["epoch"] for record in state["records"]] == [1]
    assert all(torch.isfinite(value).all() for value in state["model"].values())


def test_a_projection_holds_after_training() -> None:
    mask = torch.tensor([0.0, 1.0, 1.0, 0.0]).reshape(4, 1, 1, 1)

    @torch.no_grad()
    def keep(model: nn.Module) -> None:
        model[0].weight.mul_(mask)  # type: ignore[index]

    model = network()
    fit(model, images(), SETTINGS, project=keep)
    assert not model[0].weight[[0, 3]].any()
    assert model[0].weight[[1, 2]].all()


def test_a_fabric_of_the_caller_is_used() -> None:
    model = network().double()
    data = DataTensors(images().x.double(), images().y)
    fit(model, data, SETTINGS, fabric=Fabric(accelerator="cpu", devices=1, precision="64-true"))
    assert accuracy(model, data) >= 95


@pytest.mark.slow
def test_two_processes_train_the_network_that_one_trains(tmp_path: Path) -> None:
    """Without batch norm or dropout the shares of a batch add up to the batch."""

    def plain() -> nn.Module:
        build = lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 2))  # noqa: E731
        return initialised(build, torch.Generator().manual_seed(0))

    def share(fabric: Fabric) -> None:
        fit(plain(), images(), SETTINGS, augment=FlipAndShift(), fabric=fabric, checkpoint=path)

    path = tmp_path / "run.checkpoint"
    alone = plain()
    fit(alone, images(), SETTINGS, augment=FlipAndShift())
    Fabric(accelerator="cpu", devices=2, strategy="ddp_fork").launch(share)
    together = load_checkpoint(path)["model"]
    for name, value in alone.state_dict().items():
        assert torch.allclose(together[name], value, atol=1e-6), name


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (TrainSettings(epochs=9, batch=16, rate=0.05), "made with epochs 4, now 9"),
        (TrainSettings(epochs=4, batch=16, rate=0.05, seed=7), "made with seed 0, now 7"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(
    tmp_path: Path, other: TrainSettings, message: str
) -> None:
    path = tmp_path / "run.checkpoint"
    fit(network(), images(), SETTINGS, checkpoint=path)
    with pytest.raises(InputError, match=message):
        fit(network(), images(), other, checkpoint=path)
    with pytest.raises(InputError, match="made with samples 100, now 50"):
        fit(network(), images(50), SETTINGS, checkpoint=path)
    for start in (network(seed=99), nn.Sequential(nn.Flatten(), nn.Linear(36, 2))):
        with pytest.raises(InputError, match="made with starting network .*, now "):
            fit(start, images(), SETTINGS, checkpoint=path)


def test_a_run_is_told_by_its_samples_teacher_variation_and_average(tmp_path: Path) -> None:
    path, data, model = tmp_path / "run.checkpoint", images(), network()
    taught = Distillation(network(seed=1).eval(), 0.5)
    begun: dict[str, Any] = {"objective": taught, "augment": FlipAndShift(True, 0)}
    companion = Average(model, Swa())
    fit(model, data, SETTINGS, **begun, companion=companion, checkpoint=path)
    brighter = DataTensors(data.x * 0.9, data.y)
    for wrong, samples, said in (
        ({"objective": Distillation(network(seed=2).eval(), 0.5)}, data, "objective"),
        ({"objective": Distillation(network(seed=1).eval(), 0.4)}, data, "objective"),
        ({"augment": None}, data, "variation"),
        ({"augment": FlipAndShift(True, 1)}, data, "variation"),
        ({"companion": Average(network(), Ema())}, data, "companion"),
        ({}, brighter, "data"),
        ({}, DataTensors(data.x, 1 - data.y), "data"),
    ):
        again = network()
        given = {**begun, "companion": Average(again, Swa()), **wrong}
        with pytest.raises(InputError, match=f"made with {said} .*, now "):
            fit(again, samples, SETTINGS, **given, checkpoint=path)
    again = network()
    fit(again, data, SETTINGS, **begun, companion=Average(again, Swa()), checkpoint=path)
    assert_same(again, model)


def test_weights_that_overflow_in_the_last_step_are_never_kept(tmp_path: Path) -> None:
    path, rate = tmp_path / "run.checkpoint", 1e38
    flat = nn.Sequential(nn.Flatten(), nn.Linear(36, 2))
    data = DataTensors(images(16).x * 1e3, images(16).y)
    with pytest.raises(DivergenceError, match="epoch 1: 1.weight is not finite"):
        fit(flat, data, TrainSettings(1, 16, rate, decay=0.0, warmup=0.0), checkpoint=path)
    assert not path.exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 truncated"])
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "run.checkpoint"
    path.write_bytes(content)
    with pytest.raises(InputError, match="cannot be read .*; delete it to start over"):
        fit(network(), images(), SETTINGS, checkpoint=path)


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.checkpoint"
    torch.save({"identity": {}, "model": print}, path)
    with pytest.raises(InputError, match="cannot be read"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "text",
    [
        '["tuple", ["tensor", "7"]]', '["tensor", "0", "0"]', '["table", ["a"]]', '["table", [1.5, 2]]',
        '["set"]', "[]", '{"identity": {}}', '["float", "1"]', '["list", {"a": 1}]', "null", "7",
    ],
)  # fmt: skip
def test_a_state_of_another_form_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "run.checkpoint"
    path.write_bytes(save({"0": torch.zeros(2)}, metadata={"state": text}))
    with pytest.raises(InputError, match=r"run\.checkpoint: .*delete it to start over"):
        load_checkpoint(path)


def test_a_checkpoint_gives_back_what_was_saved(tmp_path: Path) -> None:
    """Kinds, keys that are numbers, numbers that are none; views and tied tensors as they read."""
    whole = torch.arange(6.0).reshape(2, 3)
    state = {
        "identity": {"a": (1, [2.5, None, True]), "b": math.inf},
        "model": {"w": whole.T, "same": whole, "empty": torch.zeros(0, dtype=torch.int64)},
        "optimizer": {"state": {0: {"momentum_buffer": None}}, "x": []},
    }
    save_checkpoint(state, tmp_path / "run")
    found = load_checkpoint(tmp_path / "run")
    tensors = found.pop("model")
    assert {k: v.dtype for k, v in tensors.items()} == {
        k: v.dtype for k, v in state["model"].items()
    }
    assert all(torch.equal(tensors[name], value) for name, value in state.pop("model").items())
    assert found == state and type(found["identity"]["a"]) is tuple
    save_checkpoint({"identity": {}, "scores": [math.nan]}, tmp_path / "run")
    assert math.isnan(load_checkpoint(tmp_path / "run")["scores"][0])
    with pytest.raises(TypeError, match="no set"):
        save_checkpoint({"identity": {1}}, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_checkpoint_without_a_folder_is_refused_before_any_work(tmp_path: Path) -> None:
    model = network()
    with pytest.raises(InputError, match="missing: no such folder"):
        fit(model, images(), SETTINGS, checkpoint=tmp_path / "missing" / "run.checkpoint")
    assert_same(model, network())
    assert not list(tmp_path.iterdir())


def test_a_shift_moves_whole_images_and_uncovers_zeros() -> None:
    """Every varied image equals one of the 5 x 5 x 2 ways to move and mirror the original."""
    x = torch.rand(1000, 2, 6, 7, generator=torch.Generator().manual_seed(0)) + 0.1
    varied = FlipAndShift()(x, torch.Generator().manual_seed(1))
    assert varied.shape == x.shape
    padded = nn.functional.pad(x, (2, 2, 2, 2))
    moved = [padded[..., i : i + 6, j : j + 7] for i in range(5) for j in range(5)]
    ways = torch.stack([way for m in moved for way in (m, m.flip(-1))])  # (way, sample, ...)
    same = (ways == varied).flatten(2).all(2)
    assert same.any(0).all()
    assert same.any(1).all()  # each way was taken by some image
    assert torch.equal(FlipAndShift(flip=False, pixels=0)(x, torch.Generator()), x)


def test_gradients_are_clipped_to_a_norm_and_keep_their_direction() -> None:
    """One step without momentum: what moved is rate times the gradient; a high bound changes nothing."""

    def moved(clip: float) -> Tensor:
        model = network()
        before = torch.cat([p.detach().flatten() for p in model.parameters()])
        settings = TrainSettings(1, 100, 0.1, warmup=0.0, momentum=0.0, decay=0.0, clip=clip)
        fit(model, images(), settings)
        return torch.cat([p.detach().flatten() for p in model.parameters()]) - before

    rate = TrainSettings(1, rate=0.1, warmup=0.0).rate_at(0.5)
    free, tight = moved(0.0), moved(0.01)
    assert float(free.norm()) > 0.1 * rate
    assert float(tight.norm()) == pytest.approx(0.01 * rate, rel=1e-3)
    assert torch.allclose(tight / tight.norm(), free / free.norm(), atol=1e-3)
    assert torch.equal(moved(1e6), free)


def test_held_out_samples_are_a_partition() -> None:
    data = DataTensors(torch.arange(20.0)[:, None], torch.arange(20))
    rest, held = hold_out(data, 6, torch.Generator().manual_seed(0))
    assert (len(rest), len(held)) == (14, 6)
    assert sorted([*rest.y.tolist(), *held.y.tolist()]) == list(range(20))
    assert torch.equal(held.x[:, 0].long(), held.y)
    with pytest.raises(InputError, match="hold out 1 to 19"):
        hold_out(data, 20, torch.Generator())


def test_the_rate_rises_to_its_peak_and_falls_to_zero() -> None:
    """Peak 0.1 at one fifth; half way down the cosine, at 0.6, it is 0.05."""
    settings = TrainSettings(epochs=1)
    expected = {0.0: 0.0, 0.1: 0.05, 0.2: 0.1, 0.6: 0.05, 1.0: 0.0}
    assert {p: settings.rate_at(p) for p in expected} == pytest.approx(expected)
    assert TrainSettings(epochs=1, warmup=0.0).rate_at(0.0) == pytest.approx(0.1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"batch": 0},
        {"rate": math.nan},
        {"decay": -1.0},
        {"warmup": 1.0},
        {"clip": -1.0},
    ],
)
def test_settings_that_cannot_train_are_refused(wrong: dict[str, float]) -> None:
    (name,) = wrong
    with pytest.raises(InputError, match=f"{name} is "):
        TrainSettings(**({"epochs": 1} | wrong))  # type: ignore[arg-type]


def test_samples_and_labels_must_pair_up() -> None:
    with pytest.raises(InputError, match="2 samples but 3 labels"):
        DataTensors(torch.zeros(2, 1), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(InputError, match="no samples"):
        DataTensors(torch.zeros(0, 1), torch.zeros(0, dtype=torch.int64))
