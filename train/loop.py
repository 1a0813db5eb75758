"""The one training loop: objectives, masks, quantisers and attacks plug into it."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Generator, Tensor, nn
from torch.optim import SGD

from spikemorph.graph.errors import InputError, SpikemorphError
from spikemorph.graph.fields import filled
from spikemorph.graph.saving import content_hash

from .averaging import Average
from .checkpoint import RUN, State, alike, is_begun, load_checkpoint, momenta, save_checkpoint
from .companion import Companion, Companions, Moment, kept_modules
from .data import DataTensors
from .fabric import Fabric, make_fabric
from .layout import by_channel
from .objectives import CrossEntropy, Objective, now
from .settings import TrainSettings

Augment = Callable[[Tensor, Generator], Tensor]  # a batch to a varied batch
Project = Callable[[nn.Module], None]  # put the weights back where they must be: masks, bounds


class DivergenceError(SpikemorphError):
    """The loss is no number any more; the last good checkpoint is kept."""


class TrainingStopped(SpikemorphError):
    """Raised by `on_epoch` where a run is long enough: `fit` ends as after its last epoch."""


@dataclass(frozen=True)
class EpochRecord:
    """What one pass over the samples did."""

    epoch: int  # counted from 1
    loss: float  # mean over the pass
    rate: float  # learning rate of the last step
    seconds: float


@dataclass(frozen=True)
class _Plugged:
    """What the caller put into the loop."""

    objective: Objective
    augment: Augment | None
    project: Project | None
    companion: Companion | None

    def kept(self) -> tuple[nn.Module, ...]:
        """What companions remember, apart from the model."""
        return kept_modules(self.companion)


def _in_words(part: object) -> str:
    """A part's kind, numbers and weights, by which two runs are told apart."""
    if part is None or isinstance(part, int | float | str):
        return repr(part)
    name = type(part).__name__
    if isinstance(part, nn.Module):
        return f"{name}({content_hash({}, part.state_dict())[:12]})"
    if not is_dataclass(part):
        return name
    told = (f"{field.name}={_in_words(getattr(part, field.name))}" for field in fields(part))
    return f"{name}({', '.join(told)})"


def _followed_by(companion: object) -> str:
    """A companion in words: its kind and settings; what else it holds is the caller's."""
    if isinstance(companion, Companions):
        return " ".join(_followed_by(member) for member in companion.members)
    name = type(companion).__name__
    if isinstance(companion, Average):
        return f"{name}({_in_words(companion.averaging)})"
    if companion is None or isinstance(companion, nn.Module) or not is_dataclass(companion):
        return name
    values = {field.name: getattr(companion, field.name) for field in fields(companion)}
    told = (f"{key}={_in_words(value)}" for key, value in values.items() if _is_settings(value))
    return f"{name}({', '.join(told)})"


def _is_settings(value: object) -> bool:
    """Numbers and words, or a dataclass of nothing else."""
    if is_dataclass(value) and not isinstance(value, type):
        return all(_is_settings(getattr(value, field.name)) for field in fields(value))
    return isinstance(value, int | float | str)


@dataclass(frozen=True)
class _Run:
    """What a run is made of; what changes is the state of the torch objects in it."""

    fabric: Fabric
    model: nn.Module  # the caller's
    spread: nn.Module  # the same network, over Fabric's devices and processes
    optimizer: SGD
    generator: Generator
    train: DataTensors
    settings: TrainSettings
    plugged: _Plugged
    identity: State  # what must be equal for a stopped run to be continued

    def save(self, path: Path, records: list[EpochRecord], *, ended: bool = False) -> None:
        """Write the run as its last epoch left it, once among all processes."""
        state = {
            "identity": self.identity,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "companions": [module.state_dict() for module in self.plugged.kept()],
            "records": [asdict(record) for record in records],
            "ended": ended,
        }
        if self.fabric.is_global_zero:
            save_checkpoint(state, path)
        self.fabric.barrier()

    def restore(self, path: Path) -> tuple[list[EpochRecord], bool]:
        """Take up a stopped run where its last whole epoch ended, and whether it was its end."""
        state = load_checkpoint(path, RUN)
        for name, value in self.identity.items():
            before = state["identity"].get(name, value)  # older files say less
            if not _same(before, value):
                raise InputError(
                    f"checkpoint {path}: made with {name} {before}, now {value}; "
                    "ask for the same or delete it to start over"
                )
        try:
            parts = ((self.model, state["model"]),)
            kept = zip(self.plugged.kept(), state.get("companions", ()), strict=True)
            for module, stored in (*parts, *kept):
                if not alike(stored, module.state_dict()):
                    raise ValueError("other tensors")
                module.load_state_dict(stored)
            self.optimizer.load_state_dict(momenta(state["optimizer"], self.optimizer))
            self.generator.set_state(state["generator"])
        except (RuntimeError, ValueError, TypeError) as error:
            raise InputError(
                f"checkpoint {path}: made by another network or average; delete it to start over"
            ) from error
        where = f"checkpoint {path}, records"
        records = [filled(EpochRecord, record, where) for record in state["records"]]
        return records, len(records) >= self.settings.epochs or state.get("ended", False)

    def epoch(self, number: int) -> EpochRecord:
        """One pass over the samples in a fresh order."""
        start = time.perf_counter()
        batches = self.train.batches(self.settings.batch, self.generator)
        steps = len(batches)
        before = (number - 1) * steps
        losses = []
        self.spread.train()
        for step, index in enumerate(batches):
            moment = self._moment(before + step + 1, self.settings.epochs * steps)
            rate = moment.rate
            losses.append(self._update(self.train.rows(index), moment))
            if not math.isfinite(losses[-1]):
                raise DivergenceError(
                    f"epoch {number}, step {step + 1}: the loss is {losses[-1]} at learning rate "
                    f"{rate:.3g}; lower the rate or check the inputs"
                )
        seconds = time.perf_counter() - start
        return EpochRecord(number, math.fsum(losses) / steps, rate, seconds)

    def _moment(self, step: int, steps: int) -> Moment:
        rate = self.settings.rate_at((step - 0.5) / steps)
        return Moment(self.model, self.optimizer, self.generator, step, steps, rate)

    def _update(self, batch: DataTensors, moment: Moment) -> float:
        """Descend on this process's share of the batch; the mean loss over all shares.

        Where that is no number, the weights are left alone.
        """
        vary, project = self.plugged.augment, self.plugged.project
        x = batch.x if vary is None else vary(batch.x, self.generator)
        share = slice(self.fabric.global_rank, None, self.fabric.world_size)
        x, y = self.fabric.to_device((x[share], batch.y[share]))
        objective = now(self.plugged.objective, (moment.step - 1) / moment.steps)
        with self.fabric.autocast():  # also what an objective runs around Fabric's wrapper
            loss = objective(self.spread, x, y, self.generator)
        mean = cast(Tensor, self.fabric.all_reduce(loss.detach(), reduce_op="mean")).item()
        if math.isfinite(mean):
            for group in self.optimizer.param_groups:
                group["lr"] = moment.rate
            self.optimizer.zero_grad()
            self.fabric.backward(loss)
            if self.settings.clip:
                self.fabric.clip_gradients(self.spread, self.optimizer, max_norm=self.settings.clip)
            companion = self.plugged.companion
            if companion is None or companion.before_update(moment):
                self.optimizer.step()
            if companion is not None:
                companion.after_update(moment)
            if project is not None:
                project(self.model)
        return mean


@contextmanager
def _lent_seed(run: _Run) -> Iterator[None]:
    """Let layers that draw from torch's global generator (dropout) draw from the run's seed."""
    seed = int(torch.randint(2**31, (), generator=run.generator)) + run.fabric.global_rank
    devices = [] if run.fabric.device.type == "cpu" else [run.fabric.device]
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        yield


def _begin(
    model: nn.Module, train: DataTensors, settings: TrainSettings, plugged: _Plugged, fabric: Fabric
) -> _Run:
    optimizer = SGD(
        [parameter for parameter in model.parameters() if parameter.requires_grad],
        lr=settings.rate,
        momentum=settings.momentum,
        nesterov=settings.momentum > 0,
        weight_decay=settings.decay,
    )
    start = content_hash({}, model.state_dict())[:12]
    spread, stepper = fabric.setup(model, optimizer)
    for module in plugged.kept():
        module.to(fabric.device)
    generator = torch.Generator().manual_seed(settings.seed)
    identity = {
        **asdict(settings),
        **train.identity(),
        "objective": _in_words(plugged.objective),
        "variation": _in_words(plugged.augment),
        "companion": _followed_by(plugged.companion),
        "starting network": start,
    }
    return _Run(fabric, model, spread, stepper, generator, train, settings, plugged, identity)


def _last_good(checkpoint: Path | None) -> str:
    if checkpoint is None or not is_begun(checkpoint):
        return ""
    epoch = len(load_checkpoint(checkpoint, RUN)["records"])
    return (
        f"; {checkpoint} keeps the weights of epoch {epoch} (read them with "
        "spikemorph.train.checkpoint.load_checkpoint): delete it to start over at another rate"
    )


def _require_finite(model: nn.Module, epoch: int) -> None:
    """The last update of an epoch can overflow: such weights are never kept."""
    for name, parameter in model.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            raise DivergenceError(
                f"epoch {epoch}: {name} is not finite any more; lower the rate or check the inputs"
            )


def fit(
    model: nn.Module,
    train: DataTensors,
    settings: TrainSettings,
    *,
    objective: Objective | None = None,
    augment: Augment | None = None,
    project: Project | None = None,
    companion: Companion | None = None,
    checkpoint: Path | None = None,
    on_epoch: Callable[[EpochRecord], None] | None = None,
    fabric: Fabric | None = None,
) -> tuple[EpochRecord, ...]:
    """Train `model` in place, and leave it in evaluation mode.

    The `objective` (cross-entropy if none is given) is made small on each batch, which `augment`
    may vary first; `project` is called after every update, to keep bounds; the `companion` sees
    every step before and after its update (rewiring, noise) and may leave the update out. The
    `checkpoint` is written after every epoch, then `on_epoch` is called, which may raise to break
    off, or raise `TrainingStopped` to end the run well. Where the checkpoint exists, the run goes on
    from it and ends with the very weights of a run that was never stopped. `fabric` gives device,
    precision and processes, already launched, and is one CPU process by default; processes draw the
    same batches and take a share of each.
    """
    begun = is_begun(checkpoint)
    fabric = fabric or make_fabric()
    by_channel(model)
    plugged = _Plugged(objective or CrossEntropy(), augment, project, companion)
    run = _begin(model, train, settings, plugged, fabric)
    records, ended = run.restore(checkpoint) if checkpoint and begun else ([], False)
    while not ended:
        try:
            with _lent_seed(run):
                records.append(run.epoch(len(records) + 1))
            _require_finite(model, len(records))
        except DivergenceError as error:
            raise DivergenceError(f"{error}{_last_good(checkpoint)}") from error
        if checkpoint is not None:
            run.save(checkpoint, records)
        ended = len(records) == settings.epochs
        try:
            if on_epoch is not None:
                on_epoch(records[-1])
        except TrainingStopped:
            ended = True
            if checkpoint is not None:
                run.save(checkpoint, records, ended=True)
    model.eval()
    return tuple(records)


def _same(before: object, value: object) -> bool:
    try:
        return bool(before == value)
    except (RuntimeError, ValueError):  # a tensor, of which no identity is made
        return False
