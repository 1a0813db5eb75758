"""Laws of robust training: it helps, resumes bit for bit, ends with the chosen weights."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import assert_same
from lightning_fabric import Fabric
from torch import Generator, Tensor, nn

from spikemorph.graph import InputError
from spikemorph.prune import Lesson
from spikemorph.prune.masked import learn_to_the_end
from spikemorph.robust.training.epoch_selection import Chosen, FinalWeights, RobustSelection
from spikemorph.robust.training.inner_attack import Ascent
from spikemorph.robust.training.objectives import FastAdversarial, PgdTraining, Trades
from spikemorph.train import DataTensors, TrainSettings, fit, initialised
from spikemorph.train.averaging import Average, Ema, Swa, settle_statistics
from spikemorph.train.checkpoint import load_checkpoint, save_checkpoint
from spikemorph.train.companion import Companions, Moment, kept_modules
from spikemorph.train.data import MixedData
from spikemorph.train.loop import DivergenceError, EpochRecord
from spikemorph.zoo.datasets import load_data

SETTINGS = TrainSettings(epochs=3, batch=16, rate=0.05)
EPS = 0.1
FAST = FastAdversarial(EPS, 1.25 * EPS)
JUDGE = Ascent(EPS, 3, 0.08)


def points(count: int = 64, seed: int = 1) -> DataTensors:
    """Class 1 is brighter in the first half of six pixels."""
    x = torch.rand(count, 6, generator=torch.Generator().manual_seed(seed)) * 0.8
    y = torch.arange(count) % 2
    x[y == 1, :3] += 0.2
    return DataTensors(x, y)


def network(seed: int = 0, *, normed: bool = True) -> nn.Module:
    def build() -> nn.Module:
        middle = [nn.BatchNorm1d(8)] if normed else []
        return nn.Sequential(nn.Linear(6, 8), *middle, nn.ReLU(), nn.Linear(8, 2))

    return initialised(build, torch.Generator().manual_seed(seed))


class Stop(Exception):
    """Raised in the middle of a run."""


def stop_after(epoch: int, *others: Chosen) -> object:
    def told(record: EpochRecord) -> None:
        if record.epoch == epoch:
            raise Stop
        for other in others:
            other.after_epoch(record.epoch)

    return told


def test_adversarial_training_makes_digits_more_robust() -> None:
    found = load_data("digits:train:900")
    assert found.y is not None
    x = found.values().flatten(1)
    learn, test = DataTensors(x[:600], found.y[:600]), DataTensors(x[600:], found.y[600:])
    judge, scores = RobustSelection(test, Ascent(0.15, 10, 0.04)), []
    for objective in (None, FastAdversarial(0.15, 0.18)):
        build = lambda: nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))  # noqa: E731
        model = initialised(build, torch.Generator().manual_seed(0))
        fit(model, learn, replace(SETTINGS, epochs=10, batch=32, rate=0.1), objective=objective)
        scores.append(judge.score(model))
    clean, robust = scores
    assert robust.robust >= clean.robust + 15
    assert robust.clean >= 85


def test_a_stopped_run_with_everything_plugged_in_ends_with_the_same_bits(tmp_path: Path) -> None:
    data = MixedData(*vars(points()).values(), extra=points(40, seed=2), share=0.25)
    final = FinalWeights(Ema(0.9), RobustSelection(points(30, seed=3), JUDGE))

    def run(model: nn.Module, path: Path, stop: int = 0) -> Chosen:
        chosen = final(model, path)
        fit(
            model, data, SETTINGS, objective=PgdTraining(EPS, 2, 0.08), checkpoint=path,
            companion=Companions(chosen.average), on_epoch=stop_after(stop, chosen),  # type: ignore[arg-type]
        )  # fmt: skip
        chosen.finish()
        return chosen

    whole, resumed = network(), network()
    expected = run(whole, tmp_path / "whole")
    with pytest.raises(Stop):  # after the checkpoint of epoch 2, before it is judged
        run(network(), tmp_path / "run", stop=2)
    found = run(resumed, tmp_path / "run")
    assert_same(resumed, whole)
    assert found.scores == expected.scores and len(found.scores) == SETTINGS.epochs
    assert_same(found.average, expected.average)  # type: ignore[arg-type]


def test_a_checkpoint_knows_its_objective_data_and_average(tmp_path: Path) -> None:
    path, model = tmp_path / "run", network()
    fit(model, points(), SETTINGS, objective=FAST, checkpoint=path)
    with pytest.raises(InputError, match=r"made with objective FastAdversarial\(eps=0.1"):
        fit(model, points(), SETTINGS, objective=PgdTraining(EPS, 2, 0.08), checkpoint=path)
    mixed = MixedData(*vars(points()).values(), extra=points(), share=0.5)
    with pytest.raises(InputError, match="made with extra 0, now 64"):
        fit(model, mixed, SETTINGS, objective=FAST, checkpoint=path)
    start = network()
    with pytest.raises(InputError, match="made with companion NoneType, now Average"):
        fit(
            start, points(), SETTINGS, objective=FAST, checkpoint=path,
            companion=Average(start, Ema()),
        )  # fmt: skip


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    """64 samples in batches of 16 are 4 steps an epoch: call 6 is epoch 2, step 2."""

    class Overflow:
        left = 6

        def __call__(self, model: nn.Module, x: Tensor, y: Tensor, generator: Generator) -> Tensor:
            self.left -= 1
            loss = Trades(EPS, 2, 0.08)(model, x, y, generator)
            return loss * (float("inf") if self.left == 0 else 1)

    path, model = tmp_path / "run", network()
    with pytest.raises(DivergenceError, match="epoch 2, step 2: the loss is inf"):
        fit(model, points(), SETTINGS, objective=Overflow(), checkpoint=path)
    assert [record["epoch"] for record in load_checkpoint(path)["records"]] == [1]
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())


def test_every_batch_has_its_share_and_no_sample_comes_twice_before_all_came() -> None:
    """15 own samples, 3 a batch, make 5 batches; 5 guests in each, 25 in all, of 10 extra ones."""
    own, extra = points(15), points(10, seed=2)
    data = MixedData(own.x, own.y, extra, share=0.6)
    batches = data.batches(8, torch.Generator().manual_seed(0))
    assert [(int((b < 15).sum()), int((b >= 15).sum())) for b in batches] == [(3, 5)] * 5
    counts = Counter(torch.cat(batches).tolist())
    assert all(counts[k] == 1 for k in range(15))
    assert sorted(counts[k] for k in range(15, 25)) == [2] * 5 + [3] * 5
    rows = data.rows(batches[0])
    both = torch.cat([own.x, extra.x]), torch.cat([own.y, extra.y])
    assert torch.equal(rows.x, both[0][batches[0]]) and torch.equal(rows.y, both[1][batches[0]])
    again = data.batches(8, torch.Generator().manual_seed(0))
    assert all(torch.equal(a, b) for a, b in zip(batches, again, strict=True))


@pytest.mark.parametrize(
    ("extra", "share", "message"),
    [
        (points(5), 0.0, "share 0: give 0 < share < 1"),
        (points(5), 1.0, "share 1: give 0 < share < 1"),
        (DataTensors(torch.rand(4, 7), torch.zeros(4, dtype=torch.int64)), 0.5, r"shape \(7,\)"),
    ],
)
def test_extra_samples_that_do_not_fit_are_refused(
    extra: DataTensors, share: float, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        MixedData(points().x, points().y, extra, share)
    with pytest.raises(InputError, match="batch 1"):
        MixedData(points().x, points().y, points(5), 0.5).batches(1, torch.Generator())


class Diary:
    """Writes down the weights of every step."""

    def __init__(self) -> None:
        self.pages: list[Tensor] = []

    def before_update(self, moment: Moment) -> bool:
        return len(self.pages) != 2  # the third update is left out

    def after_update(self, moment: Moment) -> None:
        self.pages.append(moment.model[0].weight.detach().clone())  # type: ignore[index]


def test_averages_are_those_of_the_steps() -> None:
    """12 steps: the last three have equal parts in Swa(0.75); Ema by its recursion."""
    model, diary = network(), Diary()
    swa, ema = Average(model, Swa(0.75)), Average(model, Ema(0.5))
    fit(model, points(), SETTINGS, companion=Companions(swa, diary, ema))
    assert len(diary.pages) == 12 and torch.equal(diary.pages[2], diary.pages[1])
    mean = torch.stack(diary.pages[9:]).mean(0)
    torch.testing.assert_close(swa.mean[0].weight, mean)  # type: ignore[index]
    wanted = diary.pages[0]
    for n, page in enumerate(diary.pages[1:], start=1):
        keep = min(0.5, (1 + n) / (10 + n))
        wanted = keep * wanted + (1 - keep) * page
    torch.testing.assert_close(ema.mean[0].weight, wanted)  # type: ignore[index]
    assert int(swa.mean[1].num_batches_tracked) == 12  # type: ignore[index]
    assert kept_modules(Companions(swa, diary, Companions(ema))) == (swa, ema)
    for wrong in (lambda: Swa(1.0), lambda: Ema(1.0)):
        with pytest.raises(InputError, match="give 0 <="):
            wrong()


def test_statistics_settle_at_those_of_the_samples_and_modes_come_back() -> None:
    model, data = network(), points()
    with torch.no_grad():
        model[1].running_mean.fill_(1e3)  # type: ignore[index]
    weights = model[0].weight.clone()  # type: ignore[index]
    model[3].eval()  # type: ignore[index]
    settle_statistics(model, data.x, batch=64, batches=150)
    torch.testing.assert_close(model[1].running_mean, model[0](data.x).mean(0), atol=1e-3, rtol=0)  # type: ignore[index]
    assert torch.equal(model[0].weight, weights)  # type: ignore[index]
    assert [module.training for module in model] == [True, True, True, False]  # type: ignore[union-attr]


def follow(model: nn.Module, patience: int, path: Path | None = None) -> Chosen:
    """Robust accuracy is judged on samples that only a trained network gets right."""
    return FinalWeights(None, RobustSelection(points(40, seed=5), JUDGE, patience))(model, path)


def test_the_run_ends_with_its_most_robust_epoch() -> None:
    model = network()
    chosen, states = follow(model, patience=0), []

    def told(record: EpochRecord) -> None:
        chosen.after_epoch(record.epoch)
        states.append({k: v.clone() for k, v in model.state_dict().items()})
        with torch.no_grad():
            if record.epoch == 2:  # from here on it gets worse
                model[0].weight.neg_()  # type: ignore[index]

    fit(model, points(), replace(SETTINGS, rate=1e-9, epochs=5), on_epoch=told)
    chosen.finish()
    best = chosen.best
    assert best is not None and best.epoch in (1, 2)
    assert best.robust == max(score.robust for score in chosen.scores) > chosen.scores[-1].robust
    assert all(torch.equal(v, states[best.epoch - 1][k]) for k, v in model.state_dict().items())


def test_patience_ends_a_run_well_and_it_stays_ended(tmp_path: Path) -> None:
    """With no learning rate nothing improves on epoch 1; two epochs later the run is over."""
    path, settings = tmp_path / "run", replace(SETTINGS, rate=0.0, epochs=9)
    model = network(normed=False)
    chosen = follow(model, 2, path)
    hook = lambda record: chosen.after_epoch(record.epoch)  # noqa: E731
    records = fit(model, points(), settings, checkpoint=path, on_epoch=hook)
    assert len(records) == 3 and not model.training
    again = follow(model, 2, path)
    hook = lambda record: again.after_epoch(record.epoch)  # noqa: E731
    assert fit(model, points(), settings, checkpoint=path, on_epoch=hook) == records
    assert again.best == chosen.best


def test_patience_that_was_over_when_a_run_was_stopped_is_over_when_it_goes_on(
    tmp_path: Path,
) -> None:
    """Stopped between the checkpoint of an epoch and its judgement: no further epoch is trained."""
    path, seen = tmp_path / "run", []

    def told(record: EpochRecord) -> None:
        seen.append(record.epoch)
        if record.epoch == 3 and len(seen) == 3:
            raise KeyboardInterrupt

    ending = FinalWeights(None, RobustSelection(points(40, seed=5), JUDGE, patience=2))
    settings = replace(SETTINGS, rate=0.0, epochs=9)  # nothing improves on epoch 1
    given = Lesson(points(), settings, checkpoint=path, on_epoch=told, ending=ending)
    with pytest.raises(KeyboardInterrupt):
        learn_to_the_end(network(normed=False), given)
    model = network(normed=False)
    learn_to_the_end(model, given)
    assert seen == [1, 2, 3] and not model.training


def test_best_weights_of_another_run_or_selection_are_not_taken_up(tmp_path: Path) -> None:
    path, best = tmp_path / "run", tmp_path / "run.best"
    save_checkpoint({"identity": {}, "scores": [], "model": {}}, best)
    follow(network(), 0, path)  # no run has begun: the file is a leftover
    assert not best.exists()
    fit(network(), points(), SETTINGS, checkpoint=path)
    save_checkpoint({"identity": {"eps": 0.3}, "scores": [], "model": {}}, best)
    with pytest.raises(InputError, match="run.best: selected by {'eps': 0.3}, now"):
        follow(network(), 0, path)


def test_judging_leaves_modes_gradients_and_randomness_alone() -> None:
    model, state = network().train(), torch.get_rng_state()
    judge = RobustSelection(points(50), JUDGE)
    one = judge.score(model)
    assert one == judge.score(model) == replace(judge, batch=7).score(model)
    assert one.robust <= one.clean
    assert model.training and torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in model.parameters())
    with pytest.raises(InputError, match="not in 0..1"):
        RobustSelection(DataTensors(points().x + 1, points().y), JUDGE)
    with pytest.raises(InputError, match="patience -1"):
        RobustSelection(points(), JUDGE, patience=-1)


@pytest.mark.slow
@pytest.mark.parametrize("normed", [False, True])
def test_two_processes_train_robustly_to_equal_weights(tmp_path: Path, normed: bool) -> None:
    """Without batch norms they draw, attack and learn what one process does."""
    objective = Trades(EPS, 2, 0.08)
    selection = RobustSelection(points(30, seed=3), JUDGE)

    def share(fabric: Fabric) -> None:
        model = network(normed=normed)
        chosen = FinalWeights(Ema(0.9), selection)(model, path)
        fit(
            model, points(), SETTINGS, objective=objective, fabric=fabric, checkpoint=path,
            companion=chosen.companion, on_epoch=lambda r: chosen.after_epoch(r.epoch),
        )  # fmt: skip
        save_checkpoint(
            {"identity": {}, "model": dict(model.named_parameters()), "best": str(chosen.best)},
            tmp_path / f"rank{fabric.global_rank}",
        )

    path = tmp_path / "run"
    Fabric(accelerator="cpu", devices=2, strategy="ddp_fork").launch(share)
    first, second = (load_checkpoint(tmp_path / f"rank{rank}") for rank in (0, 1))
    assert first["best"] == second["best"]
    for name, value in first["model"].items():
        assert torch.equal(value, second["model"][name]), name
    if not normed:
        alone = network(normed=False)
        fit(alone, points(), SETTINGS, objective=objective)
        for name, value in alone.named_parameters():
            assert torch.allclose(first["model"][name], value, atol=1e-5), name
