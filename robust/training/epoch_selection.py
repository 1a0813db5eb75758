"""Which weights an adversarial training ends with: the epoch's most robust on held-out samples.

Robust accuracy on new images is highest somewhere on the way and falls after it (Rice, Wong and Kolter,
ICML 2020), so the last epoch is rarely the best. The samples must be no test samples: what is selected
on them looks better on them than it is.
"""

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as processes
from torch import Tensor, nn

from spikemorph.graph import InputError
from spikemorph.graph.brief import brief_repr
from spikemorph.graph.fields import filled
from spikemorph.train import DataTensors
from spikemorph.train.averaging import Average, Averaging
from spikemorph.train.checkpoint import RUN, State, load_checkpoint, save_checkpoint
from spikemorph.train.loop import TrainingStopped

from ..draws import Draws
from ..threat import require_unit_range
from .inner_attack import Ascent, cross_entropies, evaluating


@dataclass(frozen=True)
class EpochScore:
    """What a network was worth after an epoch, in per cent of the held-out samples."""

    epoch: int  # counted from 1
    clean: float
    robust: float  # right on the clean image and on the attacker's


@dataclass(frozen=True)
class RobustSelection:
    """Keep the epoch that is most robust on held-out samples; of equals, the first.

    Parameters
    ----------
    validation : DataTensors
        Held out of training, in [0, 1]; never the test set.
    ascent : Ascent
        The attack: cross-entropy, started anywhere in the cube, last image.
    patience : int
        Epochs without a better one after which training stops; 0 never stops it.
    seed : int
        Of the starts: the same ones in every epoch.
    batch : int
        Samples attacked at once; without influence on the result but for rounding.

    Raises
    ------
    InputError
        If the samples are not in [0, 1], or patience or batch is out of range.
    """

    validation: DataTensors
    ascent: Ascent
    patience: int = 0
    seed: int = 0
    batch: int = 256

    __repr__ = brief_repr

    def __post_init__(self) -> None:
        require_unit_range(self.validation.x)
        if self.patience < 0 or self.batch < 1:
            raise InputError(
                f"patience {self.patience}, batch {self.batch}: give 0 or more, and 1 or more"
            )

    def identity(self) -> dict[str, Any]:
        """What must be equal for a selection to be continued."""
        return {**asdict(self.ascent), "seed": self.seed, "samples": len(self.validation)}

    def score(self, network: nn.Module, epoch: int = 0) -> EpochScore:
        """What a network is worth; its modes and gradients are left as they were."""
        device = next(network.parameters()).device
        clean, robust = 0, 0
        with evaluating(network):
            for index in torch.split(torch.arange(len(self.validation)), self.batch):
                rows = self.validation.rows(index)
                x, y = rows.x.to(device), rows.y.to(device)
                right = _right(network, x, y)
                found = self._attacked(network, x, y, Draws.of(self.seed, index.to(device)))
                clean += int(right.sum())
                robust += int((right & _right(network, found, y)).sum())
        whole = len(self.validation)
        return EpochScore(epoch, 100 * clean / whole, 100 * robust / whole)

    def _attacked(self, network: nn.Module, x: Tensor, y: Tensor, draws: Draws) -> Tensor:
        start = self.ascent.threat.start(x, draws)
        return self.ascent(network, start, x, lambda logits: cross_entropies(logits, y))


@torch.no_grad()
def _right(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return torch.as_tensor(network(x).argmax(1) == y)


@dataclass(frozen=True)
class FinalWeights:
    """Which weights a training ends with: the last, an average's, the most robust epoch's, or both.

    With an average, the epoch is selected by the averaged network. An `Ending` for a `Lesson`.

    Parameters
    ----------
    averaging : Averaging, optional
        `Swa` or `Ema`.
    selection : RobustSelection, optional
        Of the epoch.
    """

    averaging: Averaging | None = None
    selection: RobustSelection | None = None

    def __call__(self, model: nn.Module, checkpoint: Path | None, first: int = 1) -> "Chosen":
        """Begin to follow a run; see `Chosen`."""
        return Chosen(model, self, checkpoint, first)


class Chosen:
    """Follows one training run, keeps the best weights so far, and brings the model to them.

    Where the run has a checkpoint, the best weights lie beside it, in a file of its name and
    ``.best``; a stopped run takes them up. With several processes all agree with the first.

    Parameters
    ----------
    model : Module
        The one that `fit` trains.
    final : FinalWeights
        What is to be kept.
    checkpoint : Path, optional
        Of the run.
    first : int
        The first epoch that may be chosen: earlier ones are not what the run is for.

    Raises
    ------
    InputError
        If a file of best weights belongs to another selection.
    """

    def __init__(
        self, model: nn.Module, final: FinalWeights, checkpoint: Path | None, first: int = 1
    ) -> None:
        self.average = None if final.averaging is None else Average(model, final.averaging)
        self.scores: tuple[EpochScore, ...] = ()
        self._model = model
        self._selection = final.selection
        self._best: dict[str, Tensor] | None = None
        self._first = first
        self._file = None if checkpoint is None else checkpoint.with_name(f"{checkpoint.name}.best")
        if checkpoint is None or final.selection is None:
            return
        if checkpoint.exists():
            self._take_up(load_checkpoint(checkpoint, RUN))
        elif _is_first():
            checkpoint.with_name(f"{checkpoint.name}.best").unlink(missing_ok=True)

    @property
    def companion(self) -> Average | None:
        """The average, where there is one."""
        return self.average

    @property
    def network(self) -> nn.Module:
        """What is judged: the average, or the model itself."""
        return self._model if self.average is None else self.average.mean

    @property
    def best(self) -> EpochScore | None:
        """The most robust epoch so far."""
        return max(self.scores, key=lambda score: score.robust, default=None)

    @property
    def over(self) -> bool:
        """Whether the patience is over."""
        if self._selection is None or self.best is None:
            return False
        return 0 < self._selection.patience <= self.scores[-1].epoch - self.best.epoch

    def after_epoch(self, epoch: int) -> None:
        """Judge the epoch, keep its weights if they are the best; for a hook of `fit`.

        Raises
        ------
        TrainingStopped
            If the patience is over.
        """
        if self._selection is None or epoch < self._first:
            return
        self._judge(epoch, self.network)
        if self.over and self.best is not None:
            raise TrainingStopped(f"no more robust epoch since epoch {self.best.epoch}")

    def finish(self) -> None:
        """Bring the model to the weights that were kept."""
        if self._best is not None:
            self._model.load_state_dict(self._best)
        elif self.average is not None:
            self._model.load_state_dict(self.average.mean.state_dict())

    def _judge(self, epoch: int, network: nn.Module) -> None:
        assert self._selection is not None
        _agree(network.buffers())
        score = self._selection.score(network, epoch)
        robust = torch.tensor(
            score.robust, dtype=torch.float64, device=next(network.parameters()).device
        )
        _agree((robust,))
        score = EpochScore(epoch, score.clean, float(robust))
        best = self.best
        self.scores = (*self.scores, score)
        if best is None or score.robust > best.robust:
            self._best = {k: v.detach().clone() for k, v in network.state_dict().items()}
        self._save()

    def _save(self) -> None:
        if self._file is None or self._selection is None or not _is_first():
            return
        state = {
            "identity": self._selection.identity(),
            "scores": [asdict(score) for score in self.scores],
            "model": self._best,
        }
        save_checkpoint(state, self._file)

    def _take_up(self, run: State) -> None:
        """Go on where the run was stopped, even between its checkpoint and its judgement."""
        assert self._selection is not None and self._file is not None
        if self._file.exists():
            state = load_checkpoint(self._file, ("identity", "scores", "model"))
            if state["identity"] != self._selection.identity():
                raise InputError(
                    f"{self._file}: selected by {state['identity']}, now "
                    f"{self._selection.identity()}; ask for the same or delete it and the checkpoint"
                )
            self.scores = tuple(
                filled(EpochScore, score, f"{self._file}, score {index}")
                for index, score in enumerate(state["scores"])
            )
            self._best = state["model"]
        if _many():
            processes.barrier()  # all have read before the first writes
        epoch = len(run["records"])
        if epoch >= self._first and (not self.scores or self.scores[-1].epoch < epoch):
            self._judge(epoch, self._as_saved(run))

    def _as_saved(self, run: State) -> nn.Module:
        """The network to be judged, as the checkpoint has it; `fit` has not read it yet."""
        if self.average is None:
            model = deepcopy(self._model)
            model.load_state_dict(run["model"])
            return model
        average, names = deepcopy(self.average), self.average.state_dict().keys()
        for kept in run.get("companions", ()):
            if kept.keys() == names:
                average.load_state_dict(kept)
        return average.mean


def _many() -> bool:
    return processes.is_available() and processes.is_initialized()


def _is_first() -> bool:
    return not _many() or processes.get_rank() == 0


def _agree(values: Iterable[Tensor]) -> None:
    """Let all processes have the first one's reals: batch statistics are each one's own."""
    if _many():
        for value in values:
            if value.is_floating_point():
                processes.broadcast(value, 0)
