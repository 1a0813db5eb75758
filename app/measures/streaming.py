"""Sequences that a network is given one element at a time: what it says, and what it costs, at each."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from spikemorph.graph import InputError
from spikemorph.graph.tasks import Task
from spikemorph.spiking.streams import Stream, StreamState
from spikemorph.zoo import Samples

from ..sources.sampling import ends, values
from ..sources.tasks import task_for

Watch = Callable[[int], object]


@dataclass(frozen=True)
class ElementResult:
    """One element of every stream that was still there.

    `spikes` and `steps` (until silent; None where someone was not silent yet) are means over these;
    `answers` are those of all streams, ended ones included.
    """

    element: int
    streams: int
    spikes: float
    steps: float | None
    answers: tuple[Any, ...]


@dataclass(frozen=True)
class StreamResult:
    """Streams side by side, element by element; `accuracy` is of the last answers, in per cent."""

    model: str
    data: str
    streams: int
    first: int
    inner_steps: int
    elements: tuple[ElementResult, ...]
    accuracy: float | None
    state_numbers: int

    def to_dict(self) -> dict[str, Any]:
        """The result as plain data."""
        return asdict(self)


def run_stream(
    stream: Stream,
    samples: Samples,
    model: str,
    state: StreamState | None = None,
    watch: Watch = lambda _: None,
) -> tuple[StreamResult, StreamState]:
    """Push the elements of all samples, from a state on; and the state after them.

    Raises
    ------
    InputError
        If elements have another shape than the network takes, or values outside its range.
    """
    x, entry = samples.x, stream.network.entry
    if x.dim() < 2 or tuple(x.shape[2:]) != entry.shape[1:]:
        raise InputError(
            f"{samples.name}: elements of shape {tuple(x.shape[2:])}, the network takes "
            f"{entry.shape[1:]}; give sequences as (sample, element, ...)"
        )
    real = values(samples, replace(entry, shape=tuple(x.shape[1:])), mixed=True)
    task = task_for(stream.network.graph, replace(samples, x=samples.x[:, :1], lengths=None))
    first = 0 if state is None else state.elements
    found, last, kept = list[ElementResult](), torch.zeros(0), stream.start(len(x))
    for row, outputs, after in _rows(stream, real, ends(samples), state, task, first):
        found.append(row)
        last, kept = outputs, after
        watch(1)
    answers = task.answers(last)
    result = StreamResult(
        model=model,
        data=samples.name,
        streams=len(x),
        first=first,
        inner_steps=stream.steps,
        elements=tuple(found),
        accuracy=task.share(answers, samples.labels),
        state_numbers=kept.numbers,
    )
    return result, kept


def _rows(
    stream: Stream,
    x: Tensor,
    lengths: Tensor | None,
    state: StreamState | None,
    task: Task,
    first: int,
) -> Iterator[tuple[ElementResult, Tensor, StreamState]]:
    for index, (pushed, there) in enumerate(stream.along(x, lengths, state)):
        count = int(there.sum())
        settled = pushed.trace.settled[there]
        row = ElementResult(
            element=first + index,
            streams=count,
            spikes=float(pushed.trace.spikes().sum()) / max(count, 1),
            steps=float(settled.double().mean()) if count and bool((settled >= 0).all()) else None,
            answers=tuple(task.answers(pushed.real).tolist()),
        )
        yield row, pushed.real, pushed.state
