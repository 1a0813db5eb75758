"""Find a model by what the user calls it: a file, a name in the zoo, or a factory in a module."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from spikemorph import convert
from spikemorph.convert import (
    Certificate,
    load_certified,
    read_onnx,
    read_torch,
)
from spikemorph.graph import Graph, Input, InputError, Node
from spikemorph.graph.brief import brief_repr
from spikemorph.graph.errors import Message, Repair, Setting
from spikemorph.graph.grid import UNIT, Interval
from spikemorph.graph.saving import load_graph_file
from spikemorph.layers.affine import ScaleShift
from spikemorph.spiking import SpikingNetwork
from spikemorph.zoo import build_model, fetch_network, load_model_card, model_catalogue
from spikemorph.zoo.derived import FLOAT, made_card, made_file, made_names
from spikemorph.zoo.fetched import FETCHED

from .factories import load_weights, module_of, remarks_on

Numbers = Sequence[float]
INPUT_SHAPE = Repair("input_shape", (1, 3, 32, 32), "give {}, for example")


_LEAST = 1e-30  # of a standard deviation: its reciprocal is a number
_FILES = (".onnx", ".pt2", ".safetensors")  # of models


@dataclass(frozen=True)
class Model:
    """A float graph, what it is called, and what its user should know of how it was read."""

    name: str
    graph: Graph
    remarks: tuple[str, ...] = ()

    __repr__ = brief_repr

    @property
    def entry(self) -> Input:
        """Where samples enter: their shape, and their range where that is declared."""
        return self.graph.entry

    @property
    def input_shape(self) -> tuple[int, ...]:
        """One sample's shape."""
        return self.entry.shape

    def declare(self, interval: Interval) -> "Model":
        """The model with its inputs declared to take these values; see `Graph.declare`."""
        try:
            return replace(self, graph=self.graph.declare(interval))
        except InputError as error:
            raise error.under(self.name) from error

    def behind(self, mean: Numbers | None, std: Numbers | None) -> "Model":
        """The model behind ``(x - mean) / std``, where either is given; see `normalised`."""
        if mean is None and std is None:
            return self
        means, deviations = (0.0,) if mean is None else mean, (1.0,) if std is None else std
        many = max(len(means), len(deviations))
        pair = (tuple(s) * many if len(s) == 1 else tuple(s) for s in (means, deviations))
        return replace(self, graph=normalised(self.graph, *pair))


def normalised(graph: Graph, mean: tuple[float, ...], std: tuple[float, ...]) -> Graph:
    """The graph behind ``(x - mean) / std`` per channel, so that it reads raw inputs.

    Their range is another than that of normalised inputs, so it is not declared.

    Raises
    ------
    InputError
        If the numbers do not fit the input's channels, or a deviation is not above zero.
    """
    shape = graph.entry.shape
    if len(mean) != len(std) or len(mean) not in (1, shape[0]):
        many = "1 number" if shape[0] == 1 else f"1 or {shape[0]} numbers"
        repairs = Repair("mean"), Repair("std", words=f"{{}}: {many} each, for so many channels")
        raise InputError(f"{len(mean)} means and {len(std)} deviations do not fit", *repairs)
    if any(s < _LEAST for s in std):
        raise InputError("deviations must be above zero", where=Setting("std", std))
    wide = (-1, *[1] * (len(shape) - 1))
    deviation = torch.tensor(std, dtype=torch.float64)
    shift = -torch.tensor(mean, dtype=torch.float64) / deviation
    scale = ScaleShift((1 / deviation).reshape(wide), shift.reshape(wide))
    entry = Node(graph.inputs[0], Input(shape))
    name = graph.fresh("normalisation")
    nodes = [entry, Node(name, scale, (entry.name,))]
    for node in graph.nodes:
        if node.name != entry.name:
            inputs = tuple(name if i == entry.name else i for i in node.inputs)
            nodes.append(Node(node.name, node.op, inputs))
    return graph.with_nodes(nodes)


def ranged(
    model: Model, given: tuple[float, ...] | None, tell: Callable[[Message], None] = lambda _: None
) -> Model:
    """The model with a declared input range, to make a network of it, or to attack it.

    The range is the one given, low and high; the one it was declared to have; or 0..1, which is told.

    Raises
    ------
    InputError
        If the range given is none, or the model was declared to have another.
    """
    if given is not None:
        if len(given) != 2:
            raise InputError(f"input range {given}: give two numbers, low and high")
        return model.declare(Interval.of(*given))
    if model.entry.domain is None:
        low_high = Repair("input_range", words="if not, give their ends: {}")
        tell(Message(f"inputs are taken to lie in {UNIT}", (low_high,), (model.name,)))
        return model.declare(UNIT)
    return model


def load_graph(
    source: str, *, input_shape: tuple[int, ...] | None = None, weights: Path | None = None
) -> Model:
    """Read a model.

    Parameters
    ----------
    source : str
        A path to ``.onnx``, ``.pt2`` or a saved float graph (``.safetensors``); ``zoo:NAME``; or
        ``package.module:factory``, a callable that returns an ``nn.Module``.
    input_shape : tuple of int, optional
        (batch, *sample shape): needed for a factory, and for ONNX files with open sizes.
    weights : Path, optional
        For a factory: a state dict as safetensors, or as a torch file without pickled code.

    Raises
    ------
    InputError
        If there is no such model, or its file is damaged.
    UnsupportedError
        Naming every node that cannot be taken.
    """
    path = Path(source)
    _require_meaning(source, path.suffix, input_shape, weights)
    if source.startswith("zoo:"):
        return _from_zoo(source.removeprefix("zoo:"))
    if path.is_dir():
        raise InputError(f"{path}: is a folder; give a file in it")
    if path.suffix == ".onnx":
        return Model(path.stem, read_onnx(path, input_shape))
    if path.suffix == ".pt2":
        return Model(path.stem, convert.read_pt2(path))
    if path.suffix == ".safetensors":
        return Model(path.stem, load_graph_file(path))
    if path.suffix in (".pt", ".pth", ".ckpt", ".bin", ".pkl"):
        raise InputError(
            f"{path}: a checkpoint holds weights, not the network; export the model to .onnx or .pt2, or "
            "give package.module:factory",
            Repair("weights", str(path), "and {}"),
        )
    if ":" in source:
        return _from_factory(source, input_shape, weights)
    raise InputError(
        f"{source}: not a model; give a .onnx, .pt2 or .safetensors file, zoo:NAME, or "
        "package.module:factory"
    )


def _require_meaning(
    source: str, suffix: str, input_shape: tuple[int, ...] | None, weights: Path | None
) -> None:
    """Refuse what would say nothing of this model."""
    factory = ":" in source and not source.startswith("zoo:") and suffix not in _FILES
    if weights is not None and not factory:
        raise InputError(
            f"{source}: has its own weights",
            Repair("weights", words="leave {} out: it goes with package.module:factory"),
        )
    if input_shape is not None and not factory and suffix != ".onnx":
        raise InputError(
            f"{source}: has its own input shape",
            Repair(
                "input_shape",
                words="leave {} out: it goes with package.module:factory and with ONNX files of open "
                "sizes",
            ),
        )


def network_file(source: str | Path) -> Path:
    """Where a saved network lies: a path as it is, or ``zoo:NAME``.

    Raises
    ------
    InputError
        If the zoo has no spiking network of that name, or it is a model that was not converted.
    """
    name = str(source)
    how = "convert it first (spikemorph convert, or to_snn in Python)"
    if not name.startswith("zoo:"):
        path = Path(name)
        if path.is_dir():
            raise InputError(f"{path}: is a folder; give a file in it")
        if path.is_file() and path.suffix in (".onnx", ".pt2"):
            raise InputError(f"{path}: is a model, not a spiking network; {how}")
        return path
    plain = known_in_zoo(name.removeprefix("zoo:"))
    if plain not in made_names() or made_card(plain).kind == FLOAT:
        raise InputError(f"{name}: is a float network, not a spiking one; {how}")
    return made_file(plain)


def certified(source: str | Path) -> tuple[SpikingNetwork, Certificate, Mapping[str, Any]]:
    """A converted network by what the user calls it; see `load_certified`.

    Raises
    ------
    InputError
        As `network_file` and `load_certified` do; names what the user named.
    """
    path = network_file(source)
    try:
        return load_certified(path)
    except InputError as error:
        raise InputError(str(error).replace(str(path), str(source))) from error


def named_source(notes: Mapping[str, Any], path: Path) -> str | None:
    """The model of the zoo that a converted network says it was made of; None where it names none.

    Raises
    ------
    InputError
        If it names anything else: a file may not choose what is imported or read.
    """
    source = notes.get("source")
    if source is None or source in [f"zoo:{name}" for name in zoo_names()]:
        return source
    raise InputError(
        f"{path}: source: {ascii(source)[:60]} is no network of the zoo", Repair("float_model")
    )


def zoo_names() -> tuple[str, ...]:
    """Everything that ``zoo:NAME`` can name."""
    return (*(card.name for card in model_catalogue()), *made_names(), *FETCHED)


def known_in_zoo(name: str) -> str:
    """The name, which the zoo has.

    Raises
    ------
    InputError
        If it does not; says what it has.
    """
    if name not in zoo_names():
        raise InputError(f"no network {name!r} in the zoo; known: {', '.join(zoo_names())}")
    return name


def _from_zoo(name: str) -> Model:
    known_in_zoo(name)
    if name in made_names():
        made = made_card(name)
        if made.kind != FLOAT:
            raise InputError(
                f"zoo:{name}: is a spiking network already ({made.kind}); give a float graph"
            )
        return Model(name, load_graph_file(made_file(name))).declare(Interval.of(*made.input_range))
    if name in FETCHED:
        return _fetched(name).declare(Interval.of(*FETCHED[name].input_range))
    card = load_model_card(name)
    graph = read_torch(build_model(name), torch.zeros(1, *card.input_shape))
    return Model(name, graph).declare(Interval.of(*card.input_range))


def _fetched(name: str) -> Model:
    card, file = FETCHED[name], fetch_network(name)
    if card.module is None:
        return Model(name, read_onnx(file))
    module = card.module().eval()
    load_weights(module, file, name)
    return Model(name, read_torch(module, torch.zeros(1, *card.input_shape)))


def _from_factory(source: str, input_shape: tuple[int, ...] | None, weights: Path | None) -> Model:
    if input_shape is None:
        raise InputError(f"{source}: what samples it takes is not known", INPUT_SHAPE)
    model = module_of(source, weights)
    graph = read_torch(model, torch.zeros(1, *input_shape[1:]))
    return Model(source.partition(":")[2], graph, remarks=remarks_on(source, model))
