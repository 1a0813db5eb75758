"""What a user chooses for a run, as frozen values: data, training, conversion, time, attacks."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar, cast

from spikemorph.graph import InputError
from spikemorph.graph.errors import Setting

from .attacks import ATTACKS, PATHS, PATIENCE

Choice = TypeVar("Choice")
TRAIN = "train"  # the method that prunes nothing


EXACT, LEARNED, IN_TIME = "post-training", "quantisation-aware", "through-time"


ROADS = (EXACT, LEARNED, IN_TIME)


@dataclass(frozen=True)
class DataChoice:
    """Names of data: to learn and calibrate on, and to test on.

    Trainings give `extra_share` of every batch to `extra` samples; where these have no labels, the
    network `labeller` gives them. `task` (classes, binary, values) says what labels mean, where they do
    not tell.
    """

    train: str
    test: str
    extra: str | None = None
    extra_share: float = 0.5
    labeller: str | None = None
    task: str | None = None


@dataclass(frozen=True)
class TrainingChoice:
    """The numbers of a training; `held_out` samples are kept apart to validate on.

    `distil` is the share of the loss that a teacher has, 0 to 1: the `teacher` named, or the network
    as it was before pruning. An `objective` other than clean attacks every batch within `eps`, as
    "8/255" or a number; `attack_steps` and `beta` 0 stand for the objective's own. `average` names an
    average of the weights to end with; `select` keeps the epoch most robust on the held-out samples.
    `clip` is the largest norm that all gradients together may have; 0 clips nothing. `ramp` is the share
    of the run over which the boxes of ibp and sabr grow to eps.
    `temporal_sparsity` is the price of changes of recurrent states between elements; 0 asks for none.
    """

    epochs: int = 5
    batch: int = 128
    rate: float = 0.05
    decay: float = 5e-4
    smoothing: float = 0.1
    shift: int = 0
    flip: bool = False
    held_out: int = 0
    distil: float = 0.0
    teacher: str | None = None
    precision: str = "32-true"
    objective: str = "clean"
    eps: str | float = 0.0
    attack_steps: int = 0
    beta: float = 0.0
    average: str = "none"
    select: bool = False
    clip: float = 0.0
    ramp: float = 0.5
    temporal_sparsity: float = 0.0


@dataclass(frozen=True)
class ConvertChoice:
    """How a network is quantised and made spiking; as the options of ``convert``."""

    levels: int = 16
    weight_bits: int = 8
    neuron: str = "pow2"
    schedule: str = "free"
    coding: str = "analog"
    calibrator: str = "mse"
    input_bits: int = 8
    bias_correction: bool = True
    carry: str = "reset"
    state_levels: int = 2**14


@dataclass(frozen=True)
class MeasureChoice:
    """On how many of the test samples the spikes are run and the energy is counted; 0 means all."""

    spiking: int = 0
    energy: int = 100


@dataclass(frozen=True)
class TimeChoice:
    """How a network runs and is calibrated that is trained through time (arXiv 2505.15833, section 3).

    `percentile` and `scale` set the first thresholds, from `calibration_samples` samples that are shown
    for `calibration_steps` steps. Training through time costs most: `samples` may limit it to so
    many, drawn by the seed (0: all). `surrogate` names what gradients pass spikes by:
    ``pcw WIDTH``, ``exp SCALE RATE``, ``rect WIDTH``, ``arctan ALPHA``, ``sigmoid ALPHA``.
    """

    steps: int = 8
    leak: float = 1.0
    reset: str = "hard"
    percentile: float = 99.7
    scale: float = 0.3
    calibration_steps: int = 100
    calibration_samples: int = 640
    samples: int = 0
    surrogate: str = "pcw 1"


@dataclass(frozen=True)
class AttackChoice:
    """What the networks of a recipe are attacked with: names as of `attack`, on so many test samples.

    `patience` is how long they go on, see `patience_of`. `in_time` and `in_time_paths` name those on
    networks trained through time and their gradient paths, where these are to differ: unequal effort
    compares nothing. `ann` names those on the float networks; with `transfer` images made for the float
    network are tried on the spiking one, too; `gate_samples` (of networks trained
    through time: `in_time_gates`) 0 leaves gates out. `eps_units`: "range" counts eps in shares of the
    range of inputs, "input" in the inputs' own units.
    """

    eps: tuple[str | float, ...]
    attacks: str = ATTACKS
    in_time: str | None = None
    paths: str = PATHS
    in_time_paths: str | None = None
    patience: str = PATIENCE
    ann: str = "apgd-ce=50,apgd-t=20"
    norm: str = "linf"
    eps_units: str = "range"
    samples: int = 200
    gate_samples: int = 50
    in_time_gates: int = 20
    corruptions: bool = False
    transfer: bool = False


@dataclass(frozen=True)
class CertifyChoice:
    """What is proved of a network: that no image within eps changes its answer.

    `eps` are shares of the range of inputs, growing; one for each channel with colons between:
    ``1/255:2/255:1/255``. `method` is ``intervals``, or ``lines``, which are tighter and take longer.
    `samples` are the first so many; 0: all.
    """

    eps: tuple[str | float, ...]
    method: str = "lines"
    samples: int = 0


def chosen_of(kind: type[Choice], choice: Mapping[str, Any], **more: Any) -> Choice:
    """A choice from the arguments of a call, which it knows.

    Raises
    ------
    InputError
        Naming the first one that it does not know, with those that it knows.
    """
    known = [field.name for field in fields(cast(Any, kind))]
    for name, value in choice.items():
        if name not in known:
            said = f"no such setting; known: {', '.join(known)}"
            raise InputError(said, where=Setting(name, value))
    return kind(**choice, **more)
