"""Streams: one element after another gives what whole sequences give, from any state on."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers import forged
from recurring import GRID, around, drawn_cell, jumping
from torch import Tensor

from spikemorph.convert import canonical, certify, to_spiking
from spikemorph.graph import InputError, UnsupportedError
from spikemorph.layers.integer_pass import IntegerPass
from spikemorph.quant import Quantisation, quantise_graph
from spikemorph.spiking import SpikingNetwork
from spikemorph.spiking.engines import engine_for
from spikemorph.spiking.network import Carry
from spikemorph.spiking.streams import Pushed, Stream

ELEMENTS = 9


def network(
    carry: Carry, *kinds: str, back: bool = False, elements: int = ELEMENTS
) -> SpikingNetwork:
    bodies = [
        (drawn_cell(kind, 2 if k == 0 else 4, 4, 7 + k), back) for k, kind in enumerate(kinds)
    ]
    graph = canonical(around(*bodies, elements=elements, inputs=2, size=4))
    settings = Quantisation(state_levels=500, bias_correction=False)
    return to_spiking(
        quantise_graph(graph, jumping(12, elements, 2, 3), GRID, settings), carry=carry
    )


def steps_of(found: SpikingNetwork) -> int:
    steps = certify(found).steps_required
    assert steps is not None
    return steps


def last(pushes: list[tuple[Pushed, Tensor]]) -> Pushed:
    return pushes[-1][0]


@pytest.mark.parametrize("carry", Carry)
@pytest.mark.parametrize("engine", ["dense", "reference"])
@pytest.mark.parametrize("kinds", [("gru", "lstm"), ("delays", "memory")])
def test_a_stream_is_the_batch(kinds: tuple[str, ...], engine: str, carry: Carry) -> None:
    """After the last element the outputs are the batch run's; and with fewer steps, too."""
    made, x = network(carry, *kinds), jumping(6, ELEMENTS, 2, 5)
    for steps in (steps_of(made), 2):
        pushes = list(Stream(made, steps, engine).along(x))
        batch = engine_for(made, name=engine).run(x, steps)
        assert torch.equal(last(pushes).outputs, batch.outputs[-1])
        for name in (own for own in batch.positive if "/" in own):  # the rest runs once in a batch
            sent = sum(int(pushed.trace.positive[name].sum()) for pushed, _ in pushes)
            assert sent == int(batch.positive[name].sum()), name
    assert torch.equal(
        last(list(Stream(made, steps_of(made)).along(x))).outputs, IntegerPass(made.graph)(x)
    )


@pytest.mark.parametrize("carry", Carry)
def test_the_state_in_the_middle_is_kept_in_a_file(carry: Carry, tmp_path: Path) -> None:
    made, x = network(carry, "gru", "lstm"), jumping(3, ELEMENTS, 2, 5)
    stream = Stream(made, steps_of(made))
    whole = list(stream.along(x))
    whole[3][0].state.save(tmp_path / "state.safetensors")
    again = Stream(made, steps_of(made))
    state = again.load(tmp_path / "state.safetensors")
    assert (state.elements, state.samples) == (4, 3)
    rest = list(again.along(x[:, 4:], state=state))
    for (one, _), (other, _) in zip(whole[4:], rest, strict=True):
        assert torch.equal(one.outputs, other.outputs)
        assert torch.equal(one.trace.spikes(), other.trace.spikes())


@pytest.mark.parametrize("carry", Carry)
def test_a_sample_ends_at_its_length(carry: Carry) -> None:
    """It answers as it does alone, whatever stands behind its end, and sends nothing there."""
    made, x = network(carry, "lstm", "gru"), jumping(4, ELEMENTS, 2, 5)
    lengths = torch.tensor([1, 4, ELEMENTS, 6])
    x[0, 1:] = float("nan")
    stream = Stream(made, steps_of(made))
    pushes = list(stream.along(x, lengths))
    for index, length in enumerate(lengths.tolist()):
        alone = list(stream.along(x[index : index + 1, :length]))
        assert torch.equal(last(pushes).outputs[index], last(alone).outputs[0])
        spikes = [int(pushed.trace.spikes()[:, index].sum()) for pushed, _ in pushes]
        assert spikes == [int(p.trace.spikes().sum()) for p, _ in alone] + [0] * (ELEMENTS - length)


def test_what_fails_leaves_the_state() -> None:
    made, x = network(Carry.DELTA, "gru"), jumping(2, ELEMENTS, 2, 5)
    stream = Stream(made, steps_of(made))
    state = stream.push(x[:, 0]).state
    with pytest.raises(InputError, match="element 1: sample 1, element .0, 1.: nan is no number"):
        stream.push(torch.tensor([[0.0, 0.0], [0.0, float("nan")]]), state)
    assert torch.equal(
        stream.push(x[:, 1], state).outputs, last(list(stream.along(x[:, :2]))).outputs
    )


def test_the_state_does_not_grow(tmp_path: Path) -> None:
    made = network(Carry.DELTA, "gru")
    stream, sizes = Stream(made, steps_of(made)), []
    for count in (2, 50):
        end = last(list(stream.along(jumping(1, count, 2, 5)))).state
        sizes.append(
            sum(t.numel() for part in end.parts for held in part.held.values() for t in held)
        )
    assert sizes[0] == sizes[1] > 0


def refused_streams() -> dict[str, tuple[Callable[[Path], object], str]]:
    made = network(Carry.DELTA, "gru")
    stream, x = Stream(made, 5), jumping(2, 1, 2, 1)[:, 0]

    def other(path: Path) -> object:
        Stream(network(Carry.DELTA, "lstm"), 5).push(x).state.save(path)
        return stream.load(path)

    def changed(path: Path) -> object:
        stream.push(x).state.save(path)
        return stream.load(
            forged(path, "stream", lambda _, t: [t.update({k: v + 10**6 for k, v in t.items()})])
        )

    def missing(path: Path) -> object:
        stream.push(x).state.save(path)
        return stream.load(
            forged(path, "stream", lambda plain, _: plain["parts"][0]["held"].popitem())
        )

    return {
        "of other steps": (lambda _: stream.push(x, Stream(made, 6).start(2)), "another network"),
        "of other streams": (
            lambda _: stream.push(x[:1], stream.start(2)),
            "of 2 streams, the element",
        ),
        "a file of another network": (other, "another network"),
        "a file of other numbers": (changed, "part a/ does not fit"),
        "a file with less": (missing, "part a/ does not fit"),
        "another shape": (lambda _: stream.push(x[:, :1]), r"element 0: it has shape \(1,\)"),
        "no steps": (lambda _: Stream(made, 0), "0 steps"),
    }


@pytest.mark.parametrize("what", refused_streams())
def test_bad_states_and_elements_are_refused(what: str, tmp_path: Path) -> None:
    attempt, why = refused_streams()[what]
    with pytest.raises(InputError, match=why):
        attempt(tmp_path / "state.safetensors")


def test_what_looks_ahead_cannot_stream() -> None:
    with pytest.raises(UnsupportedError, match="'a' .Scan.: it begins at the last element"):
        Stream(network(Carry.RESET, "gru", back=True), 5)
