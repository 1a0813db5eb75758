"""Find a network of any kind by what the user calls it, and open it to attack."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from spikemorph.convert import Certificate, load_certified
from spikemorph.convert.certificate import steps_of
from spikemorph.graph import Graph, Input, InputError
from spikemorph.graph.brief import brief_repr
from spikemorph.graph.errors import Repair
from spikemorph.graph.grid import UNIT, Interval
from spikemorph.graph.interpret import shapes
from spikemorph.graph.saving import file_kind, graph_hash, read_header
from spikemorph.graph.tasks import Kind, task_of
from spikemorph.layers.masks import weighted_ops
from spikemorph.robust import GradientPath, Target
from spikemorph.robust.paths.exact import exact_target
from spikemorph.robust.paths.through_time import spiking_target, training_path
from spikemorph.robust.result import Subject
from spikemorph.spiking import SpikingNetwork
from spikemorph.surrogate import SpikingModule
from spikemorph.surrogate.folded_network import KIND as DEPLOYED
from spikemorph.surrogate.trained_file import KIND as TRAINED
from spikemorph.surrogate.trained_file import load_trained
from spikemorph.train import GraphModule

from .models import load_graph, network_file, ranged
from .tasks import without_sigmoid

_Step = Callable[[Tensor], Tensor]
ANN, EXACT, TIMED = "ann", "exact", "through time"
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Opened:
    """A network that can be attacked.

    Parameters
    ----------
    target : Target
        Takes inputs in [0, 1], whatever the model's own range; gives a logit for every class, also
        where the network has one output for two classes.
    subject : Subject
        What is said of it; its data is not known yet.
    identity : str
        SHA-256 of the network.
    graph : Graph
        What it computes: samples' shape, the range of the model's own inputs, what its outputs are.
    trained : str, optional
        The gradient path that it was trained by.
    other_steps : tuple of Target
        The network run half and twice as long, if it was trained through time.
    """

    target: Target
    subject: Subject
    identity: str
    graph: Graph
    trained: str | None = None
    other_steps: tuple[Target, ...] = ()

    __repr__ = brief_repr

    @property
    def entry(self) -> Input:
        """Where samples enter."""
        return self.graph.entry


def open_subject(
    source: str,
    *,
    input_shape: tuple[int, ...] | None = None,
    weights: Path | None = None,
    input_range: tuple[float, ...] | None = None,
    normalisation: tuple[tuple[float, ...], tuple[float, ...]] | None = None,
    device: torch.device = CPU,
    tell: Callable[[str], None] = lambda _: None,
) -> Opened:
    """A float model, a certified network, or one trained through time.

    Parameters
    ----------
    source : str
        As `load_graph` takes it; or a file that ``convert`` or ``finetune`` saved; or ``zoo:NAME``.
    input_shape, weights : optional
        Of a float model, as `load_graph` takes them.
    input_range : (float, float), optional
        Of a float model's inputs, as `ranged` takes it; a saved spiking network knows its own.
    normalisation : (tuple of float, tuple of float), optional
        Means and deviations that a float model's inputs are normalised by.
    device : torch.device
        Where the network runs; samples may stay where they are.
    tell : callable, optional
        Is told what was done to a float model while it was read.

    Raises
    ------
    InputError
        If there is no such network, its file holds something else, or it knows what is given.
    """
    path = _spiking_file(source)
    if path is None:
        model = load_graph(source, input_shape=input_shape, weights=weights)
        for remark in model.remarks:
            tell(remark)
        if normalisation:
            model = model.behind(*normalisation)
        return open_float(model.name, ranged(model, input_range).graph, device)
    if any(given is not None for given in (input_shape, weights, input_range, normalisation)):
        names = ("input_range", "input_shape", "weights", "mean", "std")
        raise InputError(
            f"{source}: is a spiking network, which knows its inputs and weights",
            Repair(names[0], words="leave {}"),
            *(Repair(name, words="{}") for name in names[1:-1]),
            Repair(names[-1], words="{} out"),
        )
    return open_file(path, device)


def _spiking_file(source: str) -> Path | None:
    """The file of a spiking network; None where the source is a float model."""
    if source.startswith("zoo:"):
        try:
            return network_file(source)
        except InputError:
            return None  # a float network, or unknown: load_graph says so
    path = Path(source)
    if path.suffix != ".safetensors" or not path.is_file():
        return None
    return None if file_kind(path) in (None, "graph") else path


def open_file(path: Path, device: torch.device = CPU) -> Opened:
    """A spiking network from its file, to run on a device.

    Raises
    ------
    InputError
        If it is neither certified nor trained through time.
    """
    kind = file_kind(path)
    if kind == DEPLOYED:
        raise InputError(
            f"{path}: is folded, so its gradients in training are lost; give the network that it was "
            "folded from (trained.safetensors)"
        )
    if kind == TRAINED:
        module, _ = load_trained(path)
        weights, nonzero = weight_counts(module.graph)
        subject = Subject(path.stem, "", TIMED, module.dynamics.steps, weights, nonzero)
        module.to(device)
        target, *others = (
            seen(on_device(spiking_target(name, one), device), module.graph)
            for name, one in ((path.stem, module), *_other_lengths(module))
        )
        facts = (read_header(path)["sha256"], module.graph, training_path(module))
        return Opened(target, subject, *facts, tuple(others))
    network, certificate, _ = load_certified(path)
    return open_certified(path.stem, network, certificate, device, where=str(path))


def open_certified(
    name: str,
    network: SpikingNetwork,
    certificate: Certificate,
    device: torch.device = CPU,
    *,
    where: str | None = None,
) -> Opened:
    """A certified network, to run on a device; `where` is what errors call it, if not by its name.

    Raises
    ------
    InputError
        If its certificate is not of level A.
    """
    if certificate.level != "A":
        raise InputError(
            f"{where or name}: its certificate is of level {certificate.level or 'none'}, so its spikes "
            "may differ from the integer network, which attacks are judged by; convert it with a neuron "
            "and as many steps as reach level A"
        )
    weights, nonzero = weight_counts(network.graph)
    steps = steps_of(certificate)
    subject = Subject(name, "", EXACT, steps, weights, nonzero)
    target = seen(on_device(exact_target(name, network), device), network.graph)
    return Opened(target, subject, certificate.network_hash, network.graph)


def _other_lengths(module: SpikingModule) -> list[tuple[str, SpikingModule]]:
    steps = module.dynamics.steps
    return [(f"T = {t}", module.lasting(t)) for t in (steps // 2, 2 * steps) if t]


def open_float(name: str, graph: Graph, device: torch.device = CPU) -> Opened:
    """A float network whose input range is declared: its own gradients are the only path."""
    module = GraphModule(without_sigmoid(graph)).eval().requires_grad_(False).to(device)

    def logits(x: Tensor) -> Tensor:
        return module(x).flatten(1)

    weights, nonzero = weight_counts(graph)
    target = on_device(Target(name, logits, (GradientPath("gradients", logits),)), device)
    subject = Subject(name, "", ANN, None, weights, nonzero)
    return Opened(seen(target, graph), subject, graph_hash(graph), graph)


def weight_counts(graph: Graph) -> tuple[int, int]:
    """How many weights a graph has, and how many are not zero."""
    weights = [op.weight for op in weighted_ops(graph).values()]
    return sum(w.numel() for w in weights), sum(int((w != 0).sum()) for w in weights)


def seen(target: Target, graph: Graph) -> Target:
    """The target of a graph's logits as attacks see it: inputs in [0, 1], a logit for every class."""
    shape = shapes(graph)[graph.outputs[0]]
    target = in_unit_range(target, graph.entry.interval)
    if math.prod(shape) != 1:
        return target
    task = task_of(shape, None, said=Kind.BINARY)
    return _between(
        _as_it_is, target, lambda z: task.two_sided(z.reshape(-1, *task.shape)).flatten(1)
    )


def in_unit_range(target: Target, interval: Interval) -> Target:
    """The target behind ``low + x (high - low)``, so that eps means the same for every model."""
    return target if interval == UNIT else _between(interval.from_unit, target, _as_it_is)


def on_device(target: Target, device: torch.device) -> Target:
    """The target where its network lies: samples go there, logits and gradients come back.

    What attacks draw and keep stays with the samples, so that it is the same on every device.
    """
    if device.type == "cpu":
        return target
    return _between(lambda x: x.to(device), target, lambda logits: logits.cpu())


def _between(before: _Step, target: Target, after: _Step) -> Target:
    """The target with a step before its networks and one behind their logits."""

    def whole(model: _Step) -> _Step:
        return lambda x: after(model(before(x)))

    mixed = target.mixed
    return Target(
        target.name,
        whole(target.logits),
        tuple(replace(path, logits=whole(path.logits)) for path in target.paths),
        None if mixed is None else lambda x, which: after(mixed(before(x), which)),
        target.input_step,
    )


def _as_it_is(x: Tensor) -> Tensor:
    return x
