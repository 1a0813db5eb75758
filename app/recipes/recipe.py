"""A recipe: which networks to make from one model, and what to measure of them, read from TOML."""

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from spikemorph.graph import InputError
from spikemorph.graph.fields import filled

from ..choices.settings import (
    EXACT,
    ROADS,
    TRAIN,
    AttackChoice,
    ConvertChoice,
    DataChoice,
    MeasureChoice,
    TimeChoice,
    TrainingChoice,
)


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

    `input_shape` is one sample's, for a model that is a factory, and `weights` the file of its weights.
    `mean` and `std` put a normalisation into the model, so that it takes what attacks see: pixels in
    [0, 1]. `input_range` declares what its inputs are, low and high, where the model
    does not tell.
    """

    name: str
    model: str
    data: DataChoice
    network: tuple[NetworkChoice, ...]
    input_shape: tuple[int, ...] = ()
    weights: str | None = None
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
        architecture = bool(self.input_shape) and self.weights is None
        return architecture and all(network.fresh for network in first)

    def training_of(self, network: NetworkChoice) -> TrainingChoice:
        """The recipe's training with what the network changes."""
        where = f"network {network.name!r}: training"
        return filled(TrainingChoice, {**asdict(self.training), **network.training}, where)

    def fine_tuning_of(self, network: NetworkChoice) -> TrainingChoice:
        """The recipe's fine-tuning, of quantised weights or through time, with the network's own."""
        where = f"network {network.name!r}: fine_tuning"
        return filled(TrainingChoice, {**asdict(self.fine_tuning), **network.fine_tuning}, where)

    def trained_eps(self, network: NetworkChoice) -> str | float | None:
        """The eps within which the network's last training that attacked did so; None if none did."""
        lessons = [] if network.road == EXACT else [self.fine_tuning_of(network)]
        lessons += [] if network.method is None else [self.training_of(network)]
        found = next((lesson.eps for lesson in lessons if lesson.objective != "clean"), None)
        if found is not None or network.start is None:
            return found
        return self.trained_eps(next(one for one in self.network if one.name == network.start))


TABLES = {
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
    for key, kind in TABLES.items():
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
