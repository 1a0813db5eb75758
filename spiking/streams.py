"""A recurrent network that is given one element after another: constant memory, a state to keep."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spikemorph.graph import Input, InputError
from spikemorph.graph.brief import brief_repr
from spikemorph.graph.errors import Repair
from spikemorph.graph.fields import filled
from spikemorph.graph.plain import Plain
from spikemorph.graph.saving import TensorStore, content_hash, read_file, write_file
from spikemorph.layers.streaming import one_element

from .engines import engine_for
from .network import SpikingNetwork, network_to_plain
from .segmented import SegmentedEngine, States
from .sequences import Between, chosen
from .trace import Trace, require_steps

_KIND = "stream"


@dataclass(frozen=True, eq=False)
class StreamState:
    """Where a stream stands: whole numbers alone, which can be kept in a file and gone on with.

    Parameters
    ----------
    elements : int
        How many elements were pushed.
    parts : tuple of Between
        What every part of the network keeps.
    network_hash : str
        Of the network whose state it is, and of how it is run.
    """

    elements: int
    parts: States
    network_hash: str

    __repr__ = brief_repr

    @property
    def samples(self) -> int:
        """How many streams run side by side."""
        kept = (
            *self.parts[0].registers.values(),
            *(p.read for p in self.parts if p.read is not None),
        )
        return len(kept[0]) if kept else 0

    @property
    def numbers(self) -> int:
        """How many whole numbers one stream's state is."""
        kept = 0
        for part in self.parts:
            read = () if part.read is None else (part.read,)
            tensors = (
                *part.registers.values(),
                *read,
                *(t for own in part.held.values() for t in own),
            )
            kept += sum(t[:1].numel() for t in tensors)
        return kept

    def save(self, path: str | Path) -> None:
        """Save it as one safetensors file."""
        store = TensorStore()
        parts = [_between_to_plain(part, store) for part in self.parts]
        plain = {"elements": self.elements, "network": self.network_hash, "parts": parts}
        write_file(Path(path), _KIND, plain, store.tensors)


@dataclass(frozen=True)
class _StoredBetween:
    """What the JSON of one part's state holds."""

    registers: dict[str, str]
    read: str | None
    held: dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class _Stored:
    """What the JSON of a state holds."""

    elements: int
    network: str
    parts: tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class Pushed:
    """What one element did.

    Parameters
    ----------
    outputs : Tensor
        (sample, *output shape) int64: the read-out's sums.
    real : Tensor
        (sample, *output shape) float64: logits, or what the analog read-out makes of them.
    trace : Trace
        Its inner steps.
    state : StreamState
        After it.
    """

    outputs: Tensor
    real: Tensor
    trace: Trace
    state: StreamState

    __repr__ = brief_repr


class Stream:
    """Runs a network element by element.

    Parameters
    ----------
    network : SpikingNetwork
        The network, as it was converted for whole sequences. Elements lie along the first axis of its
        samples.
    steps : int
        Inner steps of every part at every element: what its certificate asks for, or fewer.
    engine : str
        The name of what runs its parts.

    Raises
    ------
    UnsupportedError
        Naming every node that looks at several elements at a time.
    InputError
        If there is no step, or no engine of that name.
    """

    def __init__(self, network: SpikingNetwork, steps: int, engine: str = "auto") -> None:
        require_steps(steps)
        if not network.recurrent:
            raise InputError(
                "the network has no recurrent layer: its samples are no sequences; evaluate it"
            )
        self.network, self.steps = replace(network, graph=one_element(network.graph)), steps
        found = engine_for(self.network, most_steps=steps, name=engine)
        assert isinstance(found, SegmentedEngine)
        self._engine = found
        store = TensorStore()
        kind = type(found.parts[0].engine).__name__  # whose numbers the state holds
        plain = [network_to_plain(self.network, store), steps, kind]
        self._hash = content_hash(plain, store.tensors)

    def start(self, samples: int = 1) -> StreamState:
        """The beginning of some streams side by side."""
        return StreamState(0, self._engine.start(samples), self._hash)

    def push(self, x: Tensor, state: StreamState | None = None, *, record: bool = False) -> Pushed:
        """The next element of every stream, (sample, *element shape) real values on the grid.

        The state that was given stays as it is: where an element is refused, the stream goes on from
        it. Without one it is the first element.

        Raises
        ------
        InputError
            If the state is another network's, or of another number of streams, or the element has
            another shape or values outside the grid; it says which element.
        """
        state = self.start(len(x)) if state is None else state
        where = f"element {state.elements}"
        shape = self.network.entry.shape[1:]
        if tuple(x.shape[1:]) != shape:
            raise InputError(
                f"{where}: it has shape {tuple(x.shape[1:])}, the network takes {shape}"
            )
        self._require(state, len(x))
        try:
            points = self.network.grid.to_integers(x[:, None])
        except InputError as error:
            raise error.under(where) from error
        parts, trace = self._engine.go_on(state.parts, points, self.steps, record=record)
        after = StreamState(state.elements + 1, parts, self._hash)
        outputs = trace.outputs[-1]
        return Pushed(outputs, self.network.readout.real(outputs), trace, after)

    def _require(self, state: StreamState, samples: int) -> None:
        if state.network_hash != self._hash:
            raise InputError(
                "the state is of another network, of other steps or of another engine; begin anew, or "
                "give the network that it was saved with"
            )
        if state.samples not in (0, samples):
            raise InputError(f"the state is of {state.samples} streams, the element of {samples}")

    def along(
        self,
        x: Tensor,
        lengths: Tensor | Sequence[int] | None = None,
        state: StreamState | None = None,
    ) -> Iterator[tuple[Pushed, Tensor]]:
        """Push whole sequences (sample, element, *shape); who was still there at each element.

        Elements past a sample's length are not looked at: it keeps its state and its output.
        """
        known = None if lengths is None else torch.as_tensor(lengths)
        last: Pushed | None = None
        for index in range(x.shape[1]):
            there = torch.ones(len(x), dtype=torch.bool) if known is None else index < known
            element = x[:, index]
            if not bool(there.all()):
                element = chosen(there, element, torch.zeros_like(element))
            pushed = self.push(element, state)
            if last is not None and not bool(there.all()):
                pushed = _held_back(pushed, last, there)
            last, state = pushed, pushed.state
            yield pushed, there

    def load(self, path: str | Path) -> StreamState:
        """A state that was saved.

        Raises
        ------
        InputError
            If the file is none, or is damaged, or holds another network's.
        """
        plain, tensors = read_file(Path(path), _KIND)
        where = str(path)
        stored = filled(_Stored, plain, where)
        if stored.network != self._hash or len(stored.parts) != len(self._engine.parts):
            raise InputError(
                "it holds the state of another network, of other steps or of another engine",
                Repair("state", words="begin anew, or give the network that it was saved with"),
            ).under(where)
        parts = tuple(_between_from_plain(part, tensors, where) for part in stored.parts)
        state = StreamState(stored.elements, parts, self._hash)
        alike = self.start(state.samples)
        if state.elements and state.samples:
            alike = self.push(
                torch.zeros(state.samples, *self.network.entry.shape[1:]), alike
            ).state
        for own, other, runner in zip(alike.parts, parts, self._engine.parts, strict=True):
            if _form(own) != _form(other) or not _on_grids(other, runner.part.network):
                raise InputError(
                    f"{where}: what it holds of part {runner.part.inside or 'outside'} does not fit the "
                    "network; begin anew"
                )
        return state


def _form(part: Between) -> Any:
    """The names, shapes and number types of all that a part keeps."""

    def form(tensor: Tensor | None) -> Any:
        return None if tensor is None else (tuple(tensor.shape), tensor.dtype)

    registers = {name: form(value) for name, value in part.registers.items()}
    held = {name: [form(value) for value in own] for name, own in part.held.items()}
    return registers, form(part.read), held


def _on_grids(part: Between, network: SpikingNetwork) -> bool:
    """Whether registers lie where the network's bounds say."""
    for name, value in part.registers.items():
        op = network.graph[name].op
        assert isinstance(op, Input) and op.grid is not None
        if int(value.min()) < op.grid.low or int(value.max()) > op.grid.high:
            return False
    return True


def _held_back(pushed: Pushed, last: Pushed, there: Tensor) -> Pushed:
    """A sample that has ended keeps what it had, and is counted nowhere."""
    pairs = zip(pushed.state.parts, last.state.parts, strict=True)
    parts = tuple(new.where(there, old) for new, old in pairs)
    outputs = chosen(there, pushed.outputs, last.outputs)
    real = chosen(there, pushed.real, last.real)
    trace = pushed.trace
    silent = replace(
        trace,
        positive={name: counts * there for name, counts in trace.positive.items()},
        negative={name: counts * there for name, counts in trace.negative.items()},
        settled=trace.settled * there,
    )
    return Pushed(outputs, real, silent, replace(pushed.state, parts=parts))


def _between_to_plain(part: Between, store: TensorStore) -> Plain:
    return {
        "registers": {name: store(value) for name, value in part.registers.items()},
        "read": None if part.read is None else store(part.read),
        "held": {name: [store(t) for t in held] for name, held in part.held.items()},
    }


def _between_from_plain(plain: Any, tensors: Mapping[str, Tensor], where: str) -> Between:
    stored = filled(_StoredBetween, plain, where)

    def taken(key: str) -> Tensor:
        if key not in tensors:
            raise InputError(f"{where}: tensor {key!r} is missing; begin anew")
        return tensors[key]

    return Between(
        {name: taken(key) for name, key in stored.registers.items()},
        None if stored.read is None else taken(stored.read),
        {name: tuple(taken(key) for key in held) for name, held in stored.held.items()},
    )
