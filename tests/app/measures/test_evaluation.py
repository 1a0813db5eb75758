"""Evaluation: the simulation is compared, never copied; early exits keep what they promise."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from spikemorph import convert_graph
from spikemorph.cli.options import parsed_steps
from spikemorph.conversion import Conversion
from spikemorph.convert import read_torch
from spikemorph.convert.certificate import curve_steps
from spikemorph.graph import InputError, run
from spikemorph.graph.batches import batch_size
from spikemorph.graph.grid import Grid
from spikemorph.graph.tasks import task_of
from spikemorph.measures.evaluation import evaluate, measure
from spikemorph.quant import Quantisation
from spikemorph.sources.models import normalised
from spikemorph.spiking import DenseEngine, ReferenceEngine, SpikingNetwork, Trace
from spikemorph.spiking.exits import NEVER, confidence, conformal_threshold, exit_steps
from spikemorph.zoo import Samples, build_model, load_data


@pytest.fixture(scope="module")
def converted() -> Conversion:
    graph = read_torch(build_model("digits_mlp"), torch.zeros(1, 1, 8, 8))
    x = load_data("digits:train").values()
    return convert_graph(graph, x, grid=Grid.of(0, 1), quantisation=Quantisation())


@pytest.fixture(scope="module")
def samples() -> Samples:
    return load_data("digits:test:60")


class Broken(DenseEngine):
    """A simulator with a defect: `change` spoils the outputs of a sound one."""

    def __init__(self, network: SpikingNetwork, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__(network)
        self.change = change

    def run(self, x: Tensor, steps: int, *, record: bool = False) -> Trace:
        trace = super().run(x, steps)
        outputs = self.change(trace.outputs.clone())
        return Trace(outputs, trace.positive, trace.negative, trace.settled, trace.trains)


def test_a_defect_of_one_unit_in_one_logit_is_counted(
    converted: Conversion, samples: Samples
) -> None:
    def spoil(outputs: Tensor) -> Tensor:
        outputs[-1, 0, 3] += 1
        return outputs

    network, steps = converted.network, converted.certificate.steps_required
    assert steps is not None
    engine = DenseEngine(network)
    x = samples.values()
    assert measure(network, engine, x, steps).mismatches(steps) == 0
    batches = -(-len(x) // batch_size(network.graph, engine.stride))
    found = measure(network, Broken(network, spoil), x, steps)
    assert found.mismatches(steps) == batches


def test_both_engines_measure_the_same(converted: Conversion, samples: Samples) -> None:
    network = converted.network
    x = samples.values()
    fast, slow = (
        measure(network, engine, x, 6)
        for engine in (DenseEngine(network), ReferenceEngine(network))
    )
    assert torch.equal(fast.outputs, slow.outputs)
    assert torch.equal(fast.spikes, slow.spikes)
    assert torch.equal(fast.settled, slow.settled)


def test_results_do_not_depend_on_how_samples_are_batched(
    converted: Conversion, samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, x = converted.network, samples.values()
    whole = measure(network, DenseEngine(network), x, 6)
    monkeypatch.setattr("spikemorph.measures.evaluation.CELLS", 1)
    single = measure(network, DenseEngine(network), x, 6)
    assert torch.equal(whole.outputs, single.outputs)
    assert torch.equal(whole.spikes, single.spikes)


def test_accuracy_is_the_share_of_right_classes(converted: Conversion, samples: Samples) -> None:
    network, certificate = converted.network, converted.certificate
    x = samples.values()
    outputs = DenseEngine(network).run(x, 5).real_outputs(network)
    right = [int((step.argmax(1) == samples.y).sum()) for step in outputs]
    result = evaluate(network, DenseEngine(network), certificate, x, samples.y, steps=[1, 2, 5])
    measured = [point.accuracy for point in result.curve]
    assert measured == [100 * right[t - 1] / len(x) for t in (1, 2, 5)]
    assert (
        evaluate(network, DenseEngine(network), certificate, x, None, steps=[5]).curve[0].accuracy
        is None
    )


def test_labels_that_are_no_class_are_named() -> None:
    seven = task_of((7,), None)
    with pytest.raises(InputError, match="sample 2 has label 7"):
        seven.require(torch.tensor([0, 3, 7]), "data")
    seven.require(torch.tensor([0, 3, 6]), "data")


@pytest.mark.parametrize(("text", "steps"), [("auto", None), ("4", [4]), ("1,2,8", [1, 2, 8])])
def test_steps_are_read(text: str, steps: list[int] | None) -> None:
    assert parsed_steps(text) == steps


@pytest.mark.parametrize("text", ["", "0", "1,,2", "a", "-1", "1.5"])
def test_bad_steps_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="--steps"):
        parsed_steps(text)


def test_the_curve_ends_at_the_required_steps(converted: Conversion) -> None:
    assert curve_steps(converted.certificate) == [1, 2, 4, 5]


def test_exit_is_the_first_confident_step() -> None:
    known = torch.tensor([[0.2, 0.9], [0.8, 0.1], [0.7, 0.1]])
    assert exit_steps(known, 0.75).tolist() == [2, 1]
    assert exit_steps(known, NEVER).tolist() == [3, 3]


def test_conformal_exits_keep_their_promise_on_average() -> None:
    """Early logits are the settled ones plus noise that fades; 40 draws of 200 + 200 samples.

    The promised share of differing classes is 5 %; the mean over draws may pass it by 3 standard
    errors, sqrt(0.05 * 0.95 / 8000) each.
    """
    generator = torch.Generator().manual_seed(1)
    shares = []
    for _ in range(40):
        settled = 3 * torch.randn(400, 5, generator=generator)
        fade = torch.tensor([3.0, 1.0, 0.3, 0.0])[:, None, None]
        outputs = settled + fade * torch.randn(4, 400, 5, generator=generator)
        threshold = conformal_threshold(outputs[:, :200], 0.05)
        test = outputs[:, 200:]
        step = exit_steps(confidence(test), threshold) - 1
        early = test.argmax(-1).gather(0, step[None])[0]
        shares.append(float((early != test[-1].argmax(-1)).double().mean()))
    mean = sum(shares) / len(shares)
    assert 0 < mean <= 0.05 + 3 * (0.05 * 0.95 / 8000) ** 0.5


def test_conformal_exits_refuse_what_cannot_be_promised() -> None:
    outputs = torch.zeros(2, 10, 3)
    for alpha in (0.0, 1.0):
        with pytest.raises(InputError, match="between 0 and 1"):
            conformal_threshold(outputs, alpha)
    with pytest.raises(InputError, match="99 calibration samples"):
        conformal_threshold(outputs, 0.01)


def test_normalisation_in_front_is_the_same_function() -> None:
    graph = read_torch(build_model("digits_cnn"), torch.zeros(1, 1, 8, 8))
    x = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    shifted = normalised(graph, (0.25,), (0.5,))
    torch.testing.assert_close(run(shifted, x), run(graph, (x - 0.25) / 0.5))
    for mean, std in (((0.0, 0.0), (1.0, 1.0)), ((0.0,), (0.0,)), ((0.0,), (1.0, 1.0))):
        with pytest.raises(InputError, match="mean|std="):
            normalised(graph, mean, std)
