"""Find a network of any kind by what the user calls it, and open it to attack."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from spikemorph.convert import load_certified
from spikemorph.graph import Graph, Input, InputError
from spikemorph.graph.saving import file_kind, graph_hash, read_header
from spikemorph.layers.masks import weight_of, weighted_nodes
from spikemorph.robust import GradientPath, Target
from spikemorph.robust.paths import spiking_target, training_path
from spikemorph.robust.quantised import exact_target
from spikemorph.robust.result import Subject
from spikemorph.surrogate.trained import KIND as TRAINED
from spikemorph.surrogate.trained import load_trained
from spikemorph.train import GraphModule

from .evaluation import curve_steps
from .models import load_graph, network_file

Ends = tuple[float, float]  # the range of a model's inputs
ANN, EXACT, TIMED = "ann", "exact", "through time"


@dataclass(frozen=True)
class Opened:
    """A network that can be attacked.

    Parameters
    ----------
    target : Target
        Takes inputs in [0, 1], whatever the model's own range.
    subject : Subject
        What is said of it; its data is not known yet.
    identity : str
        SHA-256 of the network.
    ends : (float, float)
        The range of the model's own inputs.
    shape : tuple of int
        One sample's.
    trained : str, optional
        The gradient path that it was trained by.
    """

    target: Target
    subject: Subject
    identity: str
    ends: Ends
    shape: tuple[int, ...]
    trained: str | None = None


def open_subject(source: str) -> Opened:
    """A float model, a certified network, or one trained through time.

    Parameters
    ----------
    source : str
        As `load_graph` takes it; or a file that ``convert`` or ``finetune`` saved; or ``zoo:NAME``.

    Raises
    ------
    InputError
        If there is no such network, or its file holds something else.
    """
    path = _spiking_file(source)
    if path is None:
        model = load_graph(source)
        return open_float(model.name, model.graph, model.input_range or (0.0, 1.0))
    return open_file(path)


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


def open_file(path: Path) -> Opened:
    """A spiking network from its file.

    Raises
    ------
    InputError
        If it is neither certified nor trained through time.
    """
    if file_kind(path) == TRAINED:
        module, said = load_trained(path)
        ends = _ends(said.get("input_range"))
        weights, nonzero = weight_counts(module.graph)
        subject = Subject(path.stem, "", TIMED, module.dynamics.steps, weights, nonzero)
        target = in_unit_range(spiking_target(path.stem, module), ends)
        identity = read_header(path)["sha256"]
        return Opened(target, subject, identity, ends, _shape(module.graph), training_path(module))
    network, certificate, notes = load_certified(path)
    ends = _ends(notes.get("input_range"))
    weights, nonzero = weight_counts(network.graph)
    steps = certificate.steps_used or max(curve_steps(certificate))
    subject = Subject(path.stem, "", EXACT, steps, weights, nonzero)
    target = in_unit_range(exact_target(path.stem, network), ends)
    return Opened(target, subject, certificate.network_hash, ends, network.entry.shape)


def open_float(name: str, graph: Graph, ends: Ends = (0.0, 1.0)) -> Opened:
    """A float network: its own gradients are the only path."""
    module = GraphModule(graph).eval().requires_grad_(False)

    def logits(x: Tensor) -> Tensor:
        return module(x).flatten(1)

    weights, nonzero = weight_counts(graph)
    target = Target(name, logits, (GradientPath("gradients", logits),))
    subject = Subject(name, "", ANN, None, weights, nonzero)
    return Opened(in_unit_range(target, ends), subject, graph_hash(graph), ends, _shape(graph))


def weight_counts(graph: Graph) -> tuple[int, int]:
    """How many weights a graph has, and how many are not zero."""
    weights = [weight_of(node) for node in weighted_nodes(graph)]
    return sum(w.numel() for w in weights), sum(int((w != 0).sum()) for w in weights)


def in_unit_range(target: Target, ends: Ends) -> Target:
    """The target behind ``low + x (high - low)``, so that eps means the same for every model."""
    low, high = ends
    if ends == (0.0, 1.0):
        return target

    def behind(model: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        return lambda x: model(low + x * (high - low))

    mixed = target.mixed
    return Target(
        target.name,
        behind(target.logits),
        tuple(replace(path, logits=behind(path.logits)) for path in target.paths),
        None if mixed is None else lambda x, which: mixed(low + x * (high - low), which),
    )


def _ends(noted: object) -> Ends:
    if not isinstance(noted, list | tuple) or len(noted) != 2:
        return 0.0, 1.0
    return float(noted[0]), float(noted[1])


def _shape(graph: Graph) -> tuple[int, ...]:
    op = graph[graph.inputs[0]].op
    assert isinstance(op, Input)
    return op.shape
