"""What is to be pruned, how far, and what may be learnt from."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from spikemorph.graph import Graph, GraphError, InputError
from spikemorph.graph.brief import brief_repr
from spikemorph.graph.errors import Repair
from spikemorph.graph.tasks import Task
from spikemorph.layers.masks import broken_masks, mask_hash, weighted_ops
from spikemorph.train import CrossEntropy, DataTensors, Objective, TrainSettings
from spikemorph.train.companion import Ending
from spikemorph.train.fabric import Fabric
from spikemorph.train.loop import Augment, EpochRecord

from .allocation import Allocation


class Method(Protocol):
    """A way to prune: a frozen dataclass whose fields are its settings."""

    @property
    def name(self) -> str:
        """What users call it."""
        ...

    def __call__(self, task: "PruneTask") -> Graph:
        """The pruned graph, trained where the task has a lesson."""
        ...


@dataclass(frozen=True)
class PhaseSettings(TrainSettings):
    """What fixes a training run, and what it is for: no checkpoint of another purpose is taken up."""

    purpose: str = ""


@dataclass(frozen=True)
class Lesson:
    """Data, objective and settings of the training that goes with pruning.

    The objective is clean or adversarial, whatever the caller gives. `checkpoint` names a file; each
    phase of a method keeps its own beside it. `ending` says which weights the training of weights
    ends with: the last, if none.
    """

    train: DataTensors
    settings: TrainSettings
    objective: Objective = field(default_factory=CrossEntropy)
    augment: Augment | None = None
    checkpoint: Path | None = None
    on_epoch: Callable[[EpochRecord], None] | None = None
    fabric: Fabric | None = None
    ending: Ending | None = None
    task: Task | None = None  # what held-out samples are judged by; classes if none

    __repr__ = brief_repr

    def phase(self, name: str, share: float = 1.0) -> "Lesson":
        """The lesson of one phase: a share of the epochs (at least one), a checkpoint of its own."""
        epochs = max(1, round(self.settings.epochs * share))
        path = self.checkpoint
        return replace(
            self,
            settings=replace(self.settings, epochs=epochs),
            checkpoint=None if path is None else path.with_name(f"{path.name}.{name}"),
        )


@dataclass(frozen=True)
class PruneTask:
    """A float graph and how sparse it is to become.

    Parameters
    ----------
    graph : Graph
        A float graph, trained.
    sparsity : float
        The share of weights to remove, 0 <= sparsity < 1, over all weighted layers together.
    allocation : Allocation, optional
        How that is spread over the layers; each method has its own default.
    lesson : Lesson, optional
        What is trained on, for methods that train; none for one shot.
    seed : int
        Of what a method draws apart from training.
    allow_empty : bool
        Whether a layer may lose all its weights.

    Raises
    ------
    InputError
        If the sparsity is outside [0, 1), or the graph has no weights, or integers for weights.
    """

    graph: Graph
    sparsity: float
    allocation: Allocation | None = None
    lesson: Lesson | None = None
    seed: int = 0
    allow_empty: bool = False

    __repr__ = brief_repr

    def __post_init__(self) -> None:
        if not 0 <= self.sparsity < 1:
            raise InputError(
                f"sparsity {self.sparsity:g}: give the share of weights to remove, 0 <= share < 1"
            )
        if not self.weights():
            raise InputError("the network has no weighted layers: nothing to prune")
        if whole := [name for name, w in self.weights().items() if not w.is_floating_point()]:
            raise InputError(f"layers {whole} hold integers: prune the network, then quantise it")

    def weights(self) -> dict[str, Tensor]:
        """The weight of every weighted node, by qualified name; one that nodes share is listed once."""
        seen: set[int] = set()
        found: dict[str, Tensor] = {}
        for name, op in weighted_ops(self.graph).items():
            if id(op.weight) not in seen:
                seen.add(id(op.weight))
                found[name] = op.weight
        return found

    def magnitudes(self) -> dict[str, Tensor]:
        """The absolute value of every weight, float64."""
        return {name: weight.detach().double().abs() for name, weight in self.weights().items()}

    def taught(self, method: Method) -> Lesson:
        """The lesson of a method that cannot do without.

        Raises
        ------
        InputError
            If there is none.
        """
        lesson = self.lesson_for(method)
        if lesson is None:
            raise InputError(
                f"method {method.name} learns from data",
                Repair("data", words="give training data: {}"),
            )
        return lesson

    def lesson_for(self, method: Method) -> Lesson | None:
        """The lesson, if there is one, for this method at this task's sparsity and allocation."""
        if self.lesson is None:
            return None
        how = "" if self.allocation is None else f", allocation {self.allocation}"
        purpose = f"{method}, sparsity {self.sparsity!r}{how}, drawn by seed {self.seed}"
        settings = asdict(self.lesson.settings) | {"purpose": purpose}
        return replace(self.lesson, settings=PhaseSettings(**settings))

    def generator(self) -> torch.Generator:
        """A fresh generator of the task's seed."""
        return torch.Generator().manual_seed(self.seed)

    def allocated(self, scores: dict[str, Tensor], default: Allocation) -> dict[str, Tensor]:
        """Masks by the task's allocation, or by `default`; see `checked`."""
        return self.checked((self.allocation or default).masks(scores, self.sparsity))

    def checked(self, masks: dict[str, Tensor]) -> dict[str, Tensor]:
        """The masks, if no layer lost all its weights or that is allowed.

        Raises
        ------
        InputError
            Naming every such layer.
        """
        empty = [name for name, mask in masks.items() if not bool(mask.any())]
        if empty and not self.allow_empty:
            raise InputError(
                f"layers {empty} would lose all their weights at sparsity {self.sparsity:g}; prune "
                "less, choose another allocation (erk, lamp)",
                Repair("allow_empty", True, "or allow it: {}"),
            )
        return masks


@dataclass(frozen=True)
class LayerSparsity:
    """How many weights one layer has and keeps; the hash names the mask in any graph."""

    node: str
    weights: int
    kept: int
    nonzero: int
    mask_hash: str

    @property
    def sparsity(self) -> float:
        """The share removed, 0..1."""
        return 1 - self.kept / self.weights


def layer_sparsities(graph: Graph) -> tuple[LayerSparsity, ...]:
    """One row for every weighted node, pruned or not.

    Raises
    ------
    GraphError
        If a weight outside a mask is not zero; all such nodes are named.
    """
    if broken := broken_masks(graph):
        raise GraphError("; ".join([*broken, "the masks were not kept: this is a defect"]))
    rows = []
    for name, op in weighted_ops(graph).items():
        mask = torch.ones_like(op.weight, dtype=torch.bool) if op.mask is None else op.mask
        count, nonzero = int(mask.sum()), int((op.weight != 0).sum())
        rows.append(LayerSparsity(name, op.weight.numel(), count, nonzero, mask_hash(mask)))
    return tuple(rows)
