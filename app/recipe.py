"""A recipe: which networks to make from one model, and what to measure of them, read from TOML."""

import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

from spikemorph.graph import InputError

Choice = TypeVar("Choice")


@dataclass(frozen=True)
class DataChoice:
    """Names of data: to learn and calibrate on, and to test on."""

    train: str
    test: str


@dataclass(frozen=True)
class TrainingChoice:
    """The numbers of a training; `held_out` samples are kept apart to validate on.

    `distil` is the share of the loss that a teacher has, 0 to 1: the `teacher` named, or the network
    as it was before pruning.
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


@dataclass(frozen=True)
class ConvertChoice:
    """How a network is quantised and made spiking; as the options of ``convert``."""

    levels: int = 16
    weight_bits: int = 8
    neuron: str = "pow2"
    schedule: str = "free"
    coding: str = "analog"
    calibrator: str = "mse"


@dataclass(frozen=True)
class MeasureChoice:
    """On how many of the test samples the spikes are run and the energy is counted; 0 means all."""

    spiking: int = 0
    energy: int = 100


@dataclass(frozen=True)
class NetworkChoice:
    """One network of a recipe; without a method it is the model as it is.

    `training` holds what differs from the recipe's own training.
    """

    name: str
    method: str | None = None
    sparsity: float = 0.0
    allocation: str | None = None
    training: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Recipe:
    """One model, several networks made of it; see ``recipes/``."""

    name: str
    model: str
    data: DataChoice
    network: tuple[NetworkChoice, ...]
    training: TrainingChoice = TrainingChoice()
    convert: ConvertChoice = ConvertChoice()
    measure: MeasureChoice = MeasureChoice()
    seed: int = 0

    def training_of(self, network: NetworkChoice) -> TrainingChoice:
        """The recipe's training with what the network changes."""
        where = f"network {network.name!r}: training"
        return _filled(TrainingChoice, {**asdict(self.training), **network.training}, where)


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
    parts = {"data": DataChoice, "training": TrainingChoice, "convert": ConvertChoice}
    for key, kind in {**parts, "measure": MeasureChoice}.items():
        if key in values:
            values[key] = _filled(kind, _table(values[key], f"{where}: {key}"), f"{where}: {key}")
    networks = values.get("network", ())
    if not isinstance(networks, list | tuple) or not networks:
        raise InputError(f"{where}: network: give one or more [[network]] tables")
    values["network"] = tuple(
        _network(_table(n, f"{where}: network[{k}]"), f"{where}: network[{k}]")
        for k, n in enumerate(networks)
    )
    recipe = _filled(Recipe, values, where)
    _check_names(recipe, where)
    _check_numbers(recipe, where)
    for network in recipe.network:
        recipe.training_of(network)
    return recipe


def _network(values: Mapping[str, Any], where: str) -> NetworkChoice:
    _table(values.get("training", {}), f"{where}: training")
    return _filled(NetworkChoice, values, where)


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
    for network in recipe.network:
        if network.method is None and (network.sparsity or network.allocation or network.training):
            raise InputError(
                f"{where}: network {network.name!r}: it is to be pruned by no method; give one"
            )


def _check_numbers(recipe: Recipe, where: str) -> None:
    for name, number in asdict(recipe.measure).items():
        if number < 0:
            raise InputError(f"{where}: measure: {name} {number}: give samples, or 0 for all")
    if not 0 <= recipe.seed < 2**63:
        raise InputError(f"{where}: seed {recipe.seed}: give a whole number of 0 or more")


def _table(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InputError(f"{where}: should be a table; see recipes/")
    return value


def _filled(kind: type[Choice], values: Mapping[str, Any], where: str) -> Choice:
    """A frozen dataclass from plain values, every key and kind checked."""
    hints = get_type_hints(kind)
    known = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]  # kinds here are dataclasses
    if odd := sorted(set(values) - set(known)):
        raise InputError(f"{where}: unknown keys {odd}; known: {', '.join(known)}")
    needed = [n for n, f in known.items() if f.default is MISSING and f.default_factory is MISSING]
    if missing := [name for name in needed if name not in values]:
        raise InputError(f"{where}: keys {missing} are missing")
    return kind(**{k: _fitted(v, hints[k], f"{where}: {k}") for k, v in values.items()})


def _fitted(value: Any, hint: Any, where: str) -> Any:
    """The value, if it is of the kind; whole numbers pass as reals."""
    kinds = tuple(k for k in get_args(hint) if isinstance(k, type)) or (hint,)
    if float in kinds and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    simple = (int, float, str, bool, type(None))
    if all(k in simple for k in kinds) and type(value) not in kinds:
        names = " or ".join(k.__name__ for k in kinds if k is not type(None))
        raise InputError(f"{where}: is {value!r}, should be of kind {names}")
    return value
