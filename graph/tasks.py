"""What a network's outputs answer: a class, yes or no, or numbers; once a sample, or at each position.

One `Task` decides what is counted as right, what agrees, what is confident and what a training makes
small, so that no two places read the same outputs differently.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

import torch
import torch.nn.functional as F
from torch import Tensor

from . import strings
from .errors import InputError, Repair, Setting


class Kind(StrEnum):
    """What one answer is."""

    CLASSES = "classes"  # the largest of K outputs
    BINARY = "binary"  # one output: 1 where it lies above a threshold, else 0
    VALUES = "values"  # real numbers, as they are
    STRINGS = "strings"  # letters said at positions, as CTC reads them


@dataclass(frozen=True)
class Task:
    """How outputs (sample, *shape) are read.

    Parameters
    ----------
    kind : Kind
        What one answer is.
    shape : tuple of int
        One sample's outputs: (K, *positions) for classes, (1, *positions) for yes or no, any for
        numbers, (position, K) for strings, whose class 0 says nothing. A network without an axis of
        features gives one output a sample.
    threshold : float
        Above which output the answer of a binary task is 1: 0, or 0.5 behind a sigmoid.
    """

    kind: Kind
    shape: tuple[int, ...]
    threshold: float = 0.0

    @property
    def positions(self) -> tuple[int, ...]:
        """The axes of a sample at each place of which there is an answer; () for one a sample."""
        return self.shape[1:] if self.kind in (Kind.CLASSES, Kind.BINARY) else ()

    @property
    def classes(self) -> int:
        """How many answers there are to choose from; 0 for numbers."""
        last = self.shape[-1]
        found = {Kind.CLASSES: self.shape[0], Kind.BINARY: 2, Kind.VALUES: 0, Kind.STRINGS: last}
        return found[self.kind]

    def answers(self, outputs: Tensor) -> Tensor:
        """The answers in outputs (..., sample, *shape): int64 (..., sample, *positions), or numbers.

        Strings are (..., sample, position), with zeros behind their letters.
        """
        found = self._shaped(outputs)
        if self.kind is Kind.STRINGS:
            return strings.read(found.argmax(-1))
        axis = found.dim() - len(self.shape)
        if self.kind is Kind.CLASSES:
            return found.argmax(axis)
        if self.kind is Kind.BINARY:
            return (found.select(axis, 0) > self.threshold).to(torch.int64)
        return found

    def two_sided(self, outputs: Tensor) -> Tensor:
        """Outputs with one for every class: those of a binary task as ``[-z / 2, z / 2]``.

        Their softmax is the sigmoid of z, so that cross-entropies, margins and confidences of classes
        are those of the one logit z. Behind a sigmoid, z is the logit of its output.
        """
        found = self._shaped(outputs)
        if self.kind is not Kind.BINARY:
            return found
        z = torch.logit(found, _LEAST) if self.threshold else found
        return torch.cat([-z / 2, z / 2], found.dim() - len(self.shape))

    def one_class(self, purpose: str) -> "Task":
        """The task itself, if it chooses one class a sample.

        Raises
        ------
        InputError
            If it does not, so that `purpose` makes no sense.
        """
        if self.kind is Kind.VALUES:
            raise InputError(f"{purpose}: the network's outputs are numbers, not classes")
        if self.kind is Kind.STRINGS:
            raise InputError(f"{purpose}: the network reads strings; give one that chooses a class")
        if math.prod(self.positions) != 1:
            raise InputError(
                f"{purpose}: the network answers at {math.prod(self.positions)} positions; give one that "
                "answers once a sample"
            )
        return self

    def loss(self, outputs: Tensor, y: Tensor, smoothing: float = 0.0) -> Tensor:
        """The mean cross-entropy, the mean squared error of numbers, or what CTC makes small.

        That is ``-log p(string)`` by its letters, over all ways to say it at the positions.
        """
        if self.kind is Kind.STRINGS:
            told = F.log_softmax(outputs.float(), 2).transpose(0, 1)
            letters, places = (y != strings.NOTHING).sum(1), torch.full((len(y),), len(told))
            return F.ctc_loss(told, y, places, letters, strings.NOTHING, zero_infinity=True)
        if self.kind is Kind.VALUES:
            return F.mse_loss(self._shaped(outputs), self.targets(y).to(outputs))
        return F.cross_entropy(self.two_sided(outputs), self.targets(y), label_smoothing=smoothing)

    def targets(self, y: Tensor) -> Tensor:
        """Labels (sample, *positions), real numbers (sample, *shape), or strings (sample, position)."""
        if self.kind is Kind.STRINGS:
            return strings.filled_up(y, self.shape[0])
        if self.kind is not Kind.VALUES:
            return y.reshape(len(y), *self.positions)
        return (y if y.is_floating_point() else y.float()).reshape(len(y), *self.shape)

    def share(self, answers: Tensor, wanted: Tensor | None) -> float | None:
        """Per cent of answers that are the wanted ones; None without any, and for numbers."""
        if wanted is None or self.kind is Kind.VALUES:
            return None
        same = answers == self.targets(wanted)
        if self.kind is Kind.STRINGS:
            same = same.all(-1)
        return 100 * int(same.sum()) / same.numel()

    def letter_errors(self, answers: Tensor, wanted: Tensor | None) -> float | None:
        """Edits for each hundred letters that were wanted; None without any, and where none are read."""
        if wanted is None or self.kind is not Kind.STRINGS:
            return None
        asked = self.targets(wanted)
        return 100 * int(strings.edits(answers, asked).sum()) / max(1, int((asked != 0).sum()))

    def error(self, answers: Tensor, wanted: Tensor | None) -> "Distance | None":
        """How far numbers lie from the wanted ones; None without any, and for classes."""
        if wanted is None or self.kind is not Kind.VALUES:
            return None
        return Distance.between(answers.double(), self.targets(wanted).double())

    def require(self, y: Tensor | None, where: str) -> None:
        """Refuse labels that the task does not have, naming the first.

        Raises
        ------
        InputError
            With the sample's index.
        """
        if y is None:
            return
        if self.kind is Kind.STRINGS:
            self._require_strings(y, where)
            return
        wanted = self.shape if self.kind is Kind.VALUES else self.positions
        if _without_ones(y.shape[1:]) != _without_ones(wanted):
            raise InputError(
                f"{where}: labels of shape {tuple(y.shape[1:])} a sample, the network answers in shape "
                f"{wanted}; give {'one label' if not wanted else 'labels of that shape'} a sample"
            )
        if self.kind is Kind.VALUES:
            if not bool(torch.isfinite(y).all()):
                index = int((~torch.isfinite(y)).nonzero()[0][0])
                raise InputError(f"{where}: sample {index} has a target that is no finite number")
            return
        self._require_classes(y, where)

    def _require_strings(self, y: Tensor, where: str) -> None:
        if y.dim() != 2 or y.shape[1] > self.shape[0]:
            raise InputError(
                f"{where}: strings of shape {tuple(y.shape[1:])}, the network says a letter at "
                f"{self.shape[0]} positions at most; give (sample, letter)"
            )
        self._require_classes(y, where)

    def _require_classes(self, y: Tensor, where: str) -> None:
        if y.is_floating_point():
            raise InputError("labels are real numbers; give whole ones", _NUMBERS, where=where)
        bad = ((y < 0) | (y >= self.classes)).nonzero()
        if not len(bad):
            return
        index = tuple(int(i) for i in bad[0])
        counted = int(y.min()) == 1 and int(y.max()) == self.classes
        place = f"sample {index[0]}" + (f", position {index[1:]}," if index[1:] else "")
        repair = "give the data set the network was trained for"
        raise InputError(
            f"{where}: {place} has label {int(y[index])}, the network has classes "
            f"0..{self.classes - 1}; {'labels are counted from 0: subtract one' if counted else repair}"
        )

    def _shaped(self, outputs: Tensor) -> Tensor:
        """Outputs with the task's axes, which a network without an axis of features lacks."""
        if self.shape == (1,) and (outputs.dim() == 1 or outputs.shape[-1] != 1):
            return outputs[..., None]
        return outputs


@dataclass(frozen=True)
class Distance:
    """How far numbers are from others: root mean square, mean absolute, and share explained.

    `r2` is ``1 - sum (a - b)^2 / sum (b - mean b)^2``; None where the others are all the same.
    """

    rmse: float
    mae: float
    r2: float | None

    @classmethod
    def between(cls, found: Tensor, wanted: Tensor) -> "Distance":
        """Over all samples and outputs."""
        apart = found - wanted
        spread = float((wanted - wanted.mean(0)).square().sum())
        r2 = None if spread == 0 else 1 - float(apart.square().sum()) / spread
        return cls(float(apart.square().mean().sqrt()), float(apart.abs().mean()), r2)


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without its axes of one: with them and without, labels are the same."""
    return tuple(size for size in shape if size != 1)


_LEAST = 1e-6  # of a probability, whose logit is a number
_KINDS = ", ".join(Kind)
_NUMBERS = Repair("task", "values", "if they tell numbers, say so: {}")


def task_of(
    shape: tuple[int, ...], y: Tensor | None, *, sigmoid: bool = False, said: str | None = None
) -> Task:
    """What a network with such outputs answers, by its labels, or as it is said to.

    Parameters
    ----------
    shape : tuple of int
        One sample's outputs.
    y : Tensor or None
        Labels or targets, sample first.
    sigmoid : bool
        Whether the network ends in a sigmoid.
    said : str, optional
        The name of a `Kind`, where it cannot be inferred.

    Raises
    ------
    InputError
        If the name is unknown, or contradicts the outputs; if nothing decides between two.
    """
    shape = shape or (1,)
    if said is not None and said not in list(Kind):
        raise InputError(f"choose one of {_KINDS}", where=Setting("task", said))
    kind = _inferred(shape, y, sigmoid) if said is None else Kind(said)
    if kind is Kind.BINARY and shape[0] != 1:
        raise InputError(f"task binary: the network has outputs of shape {shape}, one is expected")
    if kind is Kind.STRINGS and len(shape) != 2:
        raise InputError(
            f"task strings: the network has outputs of shape {shape}, (position, class) is expected"
        )
    if kind is Kind.CLASSES and shape[0] == 1:
        raise InputError(
            f"task classes: the network has outputs of shape {shape}, two or more are expected; "
            "one output is binary, or values"
        )
    return Task(kind, shape, 0.5 if sigmoid and kind is Kind.BINARY else 0.0)


def _inferred(shape: tuple[int, ...], y: Tensor | None, sigmoid: bool) -> Kind:
    whole = y is not None and not y.is_floating_point()
    if y is not None and whole and len(shape) == y.dim() == 2 and y.shape[1] not in (1, shape[1]):
        return Kind.STRINGS  # there is no label for each position
    if shape[0] > 1:
        return Kind.VALUES if y is not None and y.is_floating_point() else Kind.CLASSES
    if y is None:
        return Kind.BINARY if sigmoid else Kind.VALUES
    two = bool(((y == 0) | (y == 1)).all())
    if y.is_floating_point() and two:
        raise InputError(
            "the network has one output and its targets are 0.0 and 1.0 alone; binary labels are whole, "
            "as y.astype('int64')",
            _NUMBERS,
        )
    if y.is_floating_point():
        return Kind.VALUES
    if two:
        return Kind.BINARY
    raise InputError(
        f"the network has one output and labels run from {int(y.min())} to {int(y.max())}; binary "
        "labels are 0 and 1",
        _NUMBERS,
    )
