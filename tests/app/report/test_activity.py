"""Activity: the same spikes as the trace and the evaluation count, whatever the batches."""

import pytest
import torch
from torch import Tensor

from spikemorph import convert_graph, load_graph
from spikemorph.conversion import Conversion
from spikemorph.graph import InputError
from spikemorph.graph.grid import Grid
from spikemorph.measures.activity import ROWS, activity
from spikemorph.measures.evaluation import measure
from spikemorph.quant import Quantisation
from spikemorph.spiking import DenseEngine, ReferenceEngine
from spikemorph.zoo import load_data

STEPS = 5


@pytest.fixture(scope="module")
def converted() -> Conversion:
    graph, x = load_graph("zoo:digits_mlp").graph, load_data("digits:train").values()
    return convert_graph(graph, x, grid=Grid.of(0, 1), quantisation=Quantisation())


@pytest.fixture(scope="module")
def x() -> Tensor:
    return load_data("digits:test:12").values()


def test_spikes_are_those_of_the_evaluation(converted: Conversion, x: Tensor) -> None:
    network = converted.network
    found = activity(network, DenseEngine(network), x, STEPS)
    wanted = measure(network, DenseEngine(network), x, STEPS).spikes.double().mean(1)
    by_step = torch.tensor([[*layer.positive] for layer in found.layers]).double()
    by_step += torch.tensor([[*layer.negative] for layer in found.layers]).double()
    torch.testing.assert_close(by_step.sum(0), wanted, rtol=1e-6, atol=1e-6)


def test_rates_and_silence_by_hand_from_the_trains(converted: Conversion, x: Tensor) -> None:
    network = converted.network
    found = activity(network, DenseEngine(network), x, STEPS)
    trains = ReferenceEngine(network).run(x, STEPS, record=True).trains
    assert [layer.node for layer in found.layers] == list(trains)
    for layer in found.layers:
        fired = trains[layer.node].flatten(2) != 0
        assert layer.neurons == fired.shape[2]
        assert layer.firing_rate == pytest.approx(float(fired.double().mean()))
        silent = ~fired.any(0).any(0)
        assert layer.silent_share == pytest.approx(100 * float(silent.double().mean()))
        assert sum(layer.negative) == pytest.approx(
            int((trains[layer.node] < 0).sum()) / len(x)
        )  # fmt: skip


def test_the_raster_is_the_train_of_its_sample(converted: Conversion, x: Tensor) -> None:
    network = converted.network
    found = activity(network, DenseEngine(network), x, STEPS, sample=7)
    trains = DenseEngine(network).run(x[7:8], STEPS, record=True).trains
    for layer in found.raster:
        train = trains[layer.node][:, 0].flatten(1)
        again = torch.zeros_like(train)
        for neuron, step, size in layer.spikes:
            again[step - 1, neuron] = size
        assert torch.equal(again[:, layer.shown], train[:, list(layer.shown)])
        assert int((again != 0).sum()) == int((train[:, list(layer.shown)] != 0).sum()) > 0


def test_neurons_of_the_raster_are_evenly_spaced_and_few(converted: Conversion, x: Tensor) -> None:
    network = converted.network
    for layer in activity(network, DenseEngine(network), x[:1], STEPS).raster:
        gaps = {b - a for a, b in zip(layer.shown, layer.shown[1:], strict=False)}
        assert len(layer.shown) == min(ROWS, layer.neurons)
        assert max(gaps) - min(gaps) <= 1 and layer.shown[0] == 0


def test_batches_do_not_matter_and_are_watched(
    converted: Conversion, x: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, seen = converted.network, list[int]()
    whole = activity(network, DenseEngine(network), x, STEPS)
    monkeypatch.setattr("spikemorph.graph.batches.CACHED", 1)
    assert activity(network, DenseEngine(network), x, STEPS, watch=seen.append) == whole
    assert seen == [1] * len(x)


@pytest.mark.parametrize(
    ("count", "steps", "sample", "message"),
    [(0, 5, 0, "at least one sample"), (3, 0, 0, "one step"), (3, 5, 3, "choose 0 to 2")],
)
def test_bad_requests_are_refused(
    converted: Conversion, x: Tensor, count: int, steps: int, sample: int, message: str
) -> None:
    network = converted.network
    with pytest.raises(InputError, match=message):
        activity(network, DenseEngine(network), x[:count], steps, sample=sample)
