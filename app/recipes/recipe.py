"""A recipe: which networks to make from one model, and what to measure of them, read from TOML."""

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from spikemorph.graph import InputError
from spikemorph.graph.fields import filled

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

    `in_time` and `in_time_paths` name those on networks trained through time, which cost most, and
    their gradient paths; `ann` those on the float networks; with `transfer` images made for the float
    network are tried on the spiking one, too; `gate_samples` (of networks trained
    through time: `in_time_gates`) 0 leaves gates out. `eps_units`: "range" counts eps in shares of the
    range of inputs, "input" in the inputs' own units.
    """

    eps: tuple[str | float, ...]
    attacks: str = "apgd-ce=30,apgd-dlr=30,pgd=20,square=500"
    in_time: str = "apgd-ce=10,apgd-dlr=10,pgd=10,square=500"
    paths: str = "all"
    in_time_paths: str = "all"
    ann: str = "apgd-ce=50,apgd-t=20"
    norm: str = "linf"
    eps_units: str = "range"
    samples: int = 200
    gate_samples: int = 50
    in_time_gates: int = 20
    corruptions: bool = False
    transfer: bool = False


@dataclass(frozen=True)
class NetworkChoice:
    """One network of a recipe; without a method it is the model as it is.

    The method `train` trains all weights, from new ones where `fresh`. `start` names the network of
    this recipe that it goes on from. `road` is how spikes come to it: one of `ROADS`. `training` and
    `fine_tuning` hold what differs from the recipe's own. A network that others only start from need
    not be `attacked`.
    """

    name: str
    method: str | None = None
    sparsity: float = 0.0
    allocation: str | None = None
    training: Mapping[str, Any] = field(default_factory=dict)
    start: str | None = None
    fresh: bool = False
    road: str = "post-training"
    fine_tuning: Mapping[str, Any] = field(default_factory=dict)
    attacked: bool = True


@dataclass(frozen=True)
class Recipe:
    """One model, several networks made of it; see ``recipes/``.

    `input_shape` is one sample's, for a model that is a factory. `mean` and `std` put a normalisation
    into the model, so that it takes what attacks see: pixels in [0, 1]. `input_range` declares what
    its inputs are, low and high, where that is not known of the model.
    """

    name: str
    model: str
    data: DataChoice
    network: tuple[NetworkChoice, ...]
    input_shape: tuple[int, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    input_range: tuple[float, ...] = ()
    training: TrainingChoice = TrainingChoice()
    fine_tuning: TrainingChoice = TrainingChoice(epochs=2, rate=0.01)
    convert: ConvertChoice = ConvertChoice()
    time: TimeChoice = TimeChoice()
    measure: MeasureChoice = MeasureChoice()
    attack: AttackChoice | None = None
    seed: int = 0

    @property
    def untrained(self) -> bool:
        """Whether the model is an architecture alone: a factory's, and no network has its weights."""
        first = [network for network in self.network if network.start is None]
        return bool(self.input_shape) and all(network.fresh for network in first)

    def training_of(self, network: NetworkChoice) -> TrainingChoice:
        """The recipe's training with what the network changes."""
        where = f"network {network.name!r}: training"
        return filled(TrainingChoice, {**asdict(self.training), **network.training}, where)

    def fine_tuning_of(self, network: NetworkChoice) -> TrainingChoice:
        """The recipe's fine-tuning, of quantised weights or through time, with the network's own."""
        where = f"network {network.name!r}: fine_tuning"
        return filled(TrainingChoice, {**asdict(self.fine_tuning), **network.fine_tuning}, where)


_TABLES = {
    "data": DataChoice,
    "training": TrainingChoice,
    "fine_tuning": TrainingChoice,
    "convert": ConvertChoice,
    "time": TimeChoice,
    "measure": MeasureChoice,
    "attack": AttackChoice,
}


def read_recipe(path: Path) -> Recipe:
    """Read a recipe.

    Raises
    ------
    InputError
        If the file is missing, no TOML, or has a key that is unknown, missing or of another kind;
        names the file and the key.
    """
    try:
        plain = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not readable as TOML ({error}); see recipes/") from error
    return recipe_of(plain, str(path))


def recipe_of(plain: Mapping[str, Any], where: str) -> Recipe:
    """A recipe from plain data; see `read_recipe`."""
    values = dict(plain)
    for key, kind in _TABLES.items():
        if key in values:
            values[key] = filled(kind, _table(values[key], f"{where}: {key}"), f"{where}: {key}")
    networks = values.get("network", ())
    if not isinstance(networks, list | tuple) or not networks:
        raise InputError(f"{where}: network: give one or more [[network]] tables")
    values["network"] = tuple(
        _network(_table(n, f"{where}: network[{k}]"), f"{where}: network[{k}]")
        for k, n in enumerate(networks)
    )
    recipe = filled(Recipe, values, where)
    _check_names(recipe, where)
    _check_numbers(recipe, where)
    for network in recipe.network:
        recipe.training_of(network)
        recipe.fine_tuning_of(network)
    return recipe


def _network(values: Mapping[str, Any], where: str) -> NetworkChoice:
    for key in ("training", "fine_tuning"):
        _table(values.get(key, {}), f"{where}: {key}")
    return filled(NetworkChoice, values, where)


def with_seed(recipe: Recipe, seed: int | None) -> Recipe:
    """The recipe under another seed; None leaves it."""
    return recipe if seed is None else replace(recipe, seed=seed)


def _check_names(recipe: Recipe, where: str) -> None:
    names = [recipe.name, *(network.name for network in recipe.network)]
    for name in names:
        if not name.strip() or set(name) & set("/\\") or name[0] == "." or not name.isprintable():
            raise InputError(f"{where}: name {name!r}: it becomes a folder; use letters and dashes")
        if len(name.encode()) > 200:
            raise InputError(f"{where}: name {name[:20]!r}...: too long for a folder")
    plain = [name.casefold() for name in names[1:]]  # some disks know no case
    if twice := sorted({name for name in plain if plain.count(name) > 1}):
        raise InputError(f"{where}: network: two have one name, {twice}; give each its own")
    seen: set[str] = set()
    for network in recipe.network:
        if reason := _contradiction(network, seen):
            raise InputError(f"{where}: network {network.name!r}: {reason}")
        seen.add(network.name)


def _contradiction(network: NetworkChoice, before: set[str]) -> str | None:
    """What does not fit together in one network, given the names of those before it."""
    if network.method is None and (network.sparsity or network.allocation or network.training):
        return "it is to be pruned by no method; give one"
    if network.method == TRAIN and (network.sparsity or network.allocation):
        return "method train prunes nothing; leave sparsity and allocation out"
    if network.fresh and network.method != TRAIN:
        return "only method train starts from new weights"
    if network.start is not None and network.start not in before:
        known = ", ".join(sorted(before)) or "none"
        return f"it starts from {network.start!r}, which is no network before it; known: {known}"
    if network.road not in ROADS:
        return f"road {network.road!r}: choose one of {', '.join(ROADS)}"
    if network.fine_tuning and network.road == EXACT:
        return f"road {EXACT} fine-tunes nothing; leave fine_tuning out"
    return None


def _check_numbers(recipe: Recipe, where: str) -> None:
    for name, number in asdict(recipe.measure).items():
        if number < 0:
            raise InputError(f"{where}: measure: {name} {number}: give samples, or 0 for all")
    if any(size < 1 for size in recipe.input_shape):
        raise InputError(
            f"{where}: input_shape {list(recipe.input_shape)}: give sizes of 1 or more"
        )
    if not 0 <= recipe.seed < 2**63:
        raise InputError(f"{where}: seed {recipe.seed}: give a whole number of 0 or more")


def _table(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InputError(f"{where}: should be a table; see recipes/")
    return value
