"""One logit and its two-logit twin stay alike where a sigmoid, a teacher or a labeller comes in."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import draw
from torch import Tensor, nn

from spikemorph import convert_graph
from spikemorph.choices.settings import AttackChoice, TrainingChoice
from spikemorph.convert import certify, read_torch
from spikemorph.graph import Graph, InputError, run
from spikemorph.graph.grid import UNIT, Grid
from spikemorph.graph.saving import save_graph
from spikemorph.graph.tasks import Kind, Task, task_of
from spikemorph.measures.evaluation import evaluate
from spikemorph.measures.robustness import attack_model
from spikemorph.quant import Quantisation
from spikemorph.sources.models import Model, load_graph
from spikemorph.sources.subjects import Opened, open_file, open_float
from spikemorph.spiking import DenseEngine, ReferenceEngine, save_network
from spikemorph.train import DataTensors, GraphModule
from spikemorph.train.data import MixedData
from spikemorph.training.extra import extra_of
from spikemorph.training.settings import lesson_of
from spikemorph.zoo import Samples

X = draw(40, 2, 4, seed=3).sigmoid()
LOUD = 100.0  # logits behind which a float32 sigmoid has no gradient


def body(seed: int = 0) -> nn.Sequential:
    """Logits around zero, tens away from it."""
    generator = torch.Generator().manual_seed(seed)
    net = nn.Sequential(nn.Flatten(), nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 1))
    for parameter in net.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.5
    last = net[3]
    assert isinstance(last, nn.Linear)
    last.weight.data *= LOUD
    last.bias.data -= net(X).detach().quantile(0.5)
    return net.eval()


def twin_of(net: nn.Sequential) -> nn.Sequential:
    *front, last = net
    assert isinstance(last, nn.Linear)
    two = nn.Linear(12, 2)
    two.weight.data = torch.cat([-last.weight.data / 2, last.weight.data / 2])
    two.bias.data = torch.cat([-last.bias.data / 2, last.bias.data / 2])
    return nn.Sequential(*front, two).eval()


def graph_of(net: nn.Module) -> Graph:
    return read_torch(net, torch.zeros(1, 2, 4)).declare(UNIT)


def labels(net: nn.Module) -> Tensor:
    y = (run(graph_of(net), X)[:, 0] > 0).to(torch.int64)
    assert 10 < int(y.sum()) < 30
    return y


def opened(graph: Graph, kind: str, folder: Path) -> Opened:
    if kind == "float":
        return open_float("net", graph)
    made = convert_graph(graph, X, grid=Grid.of(0, 1), quantisation=Quantisation(levels=16))
    save_network(folder / "net.safetensors", made.network, made.notes())
    return open_file(folder / "net.safetensors")


@pytest.mark.parametrize("kind", ["float", "exact"])
def test_a_final_sigmoid_is_no_defence(kind: str, tmp_path: Path) -> None:
    """Attacks leave of it what they leave of its logit and of the two-logit twin, sample by sample."""
    net = body()
    samples = Samples("data", X, labels(net))
    choice = AttackChoice(("0.02", "0.1"), "fgsm,pgd=5", samples=len(X), gate_samples=0)
    found = []
    for one in (net, nn.Sequential(net, nn.Sigmoid()).eval(), twin_of(net)):
        result = attack_model(opened(graph_of(one), kind, tmp_path), samples, choice, 0).to_dict()
        found.append([result["clean"], *(row["worst_case"] for row in result["eps"])])
    assert found[0] == found[1] == found[2]
    assert found[0][1] > found[0][2]


def test_a_teacher_of_one_logit_teaches_as_its_twin() -> None:
    """The distilled loss of one logit is that of two, and a network loses nothing to itself."""
    net, teacher = body(), body(1)
    choice = TrainingChoice(distil=0.5, smoothing=0.0)
    losses = []
    for student, master in ((net, teacher), (twin_of(net), twin_of(teacher))):
        objective = distilled(graph_of(student), graph_of(master), labels(net), choice)
        module = GraphModule(graph_of(student)).eval()
        losses.append(float(objective(module, X, labels(net), torch.Generator()).detach()))
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    own = distilled(graph_of(net), graph_of(net), labels(net), TrainingChoice(distil=1.0))
    loss = own(GraphModule(graph_of(net)).eval(), X, labels(net), torch.Generator())
    assert abs(float(loss.detach())) < 1e-4
    with pytest.raises(InputError, match=r"teacher .*: task binary: .*shape \(2,\)"):
        distilled(graph_of(net), graph_of(twin_of(teacher)), labels(net), choice)


def distilled(student: Graph, master: Graph, y: Tensor, choice: TrainingChoice):  # type: ignore[no-untyped-def]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("spikemorph.training.settings.load_graph", lambda name: Model(name, master))
        given = TrainingChoice(distil=choice.distil, smoothing=choice.smoothing, teacher="master")
        lesson, _ = lesson_of(given, Samples("data", X, y), Model("student", student), 0)
    return lesson.objective


def test_a_labeller_answers_the_task_that_is_learnt(tmp_path: Path) -> None:
    """One logit gives labels 0 and 1, not its logits cut to whole numbers."""
    net = body()
    save_graph(tmp_path / "net.safetensors", graph_of(net))
    np.savez(tmp_path / "more.npz", x=X.numpy())
    name, data = str(tmp_path / "net.safetensors"), str(tmp_path / "more.npz")
    train = Samples("train", X, labels(net))
    extra = extra_of(data, 0.5, name, like=train)
    assert extra is not None
    lesson, _ = lesson_of(TrainingChoice(), train, load_graph(name), 0, extra=extra)
    assert isinstance(lesson.train, MixedData)
    assert torch.equal(lesson.train.extra.y, labels(net))
    wrong = Samples("other", X, labels(net) + 1)
    with pytest.raises(InputError, match="extra|other"):
        extra_of(data, 0.5, name, like=wrong)


def test_mixed_samples_keep_their_positions() -> None:
    y = torch.arange(12).reshape(4, 3)
    mixed = MixedData(X[:2], y[:2], DataTensors(X[2:4], y[2:]), 0.5)
    assert torch.equal(mixed.rows(torch.tensor([3, 0])).y, y[[3, 0]])


def test_no_run_has_a_step_below_one() -> None:
    """Engines, certificates and curves; a curve read at step 0 told the last step's numbers."""
    made = convert_graph(
        graph_of(body()), X, grid=Grid.of(0, 1), quantisation=Quantisation(levels=4)
    )
    network, engine = made.network, DenseEngine(made.network)
    for steps in (0, -1):
        for refused in (
            lambda t: engine.run(X, t),
            lambda t: ReferenceEngine(network).run(X, t),
            lambda t: certify(network, t),
            lambda t: evaluate(network, engine, made.certificate, X, None, steps=[t, 4]),
        ):
            with pytest.raises(InputError, match=f"^{steps} steps: a network runs for 1 step"):
                refused(steps)


def test_labels_are_the_same_with_axes_of_one() -> None:
    binary, masks = Task(Kind.BINARY, (1,)), Task(Kind.CLASSES, (3, 2, 2))
    y = torch.tensor([0, 1, 1])
    binary.require(y[:, None], "data")
    assert torch.equal(binary.targets(y[:, None]), y)
    shown = torch.zeros(5, 1, 2, 2, dtype=torch.int64)
    masks.require(shown, "data")
    assert masks.targets(shown).shape == (5, 2, 2)
    with pytest.raises(InputError, match="labels of shape"):
        masks.require(torch.zeros(5, 4, dtype=torch.int64), "data")


def test_zeros_and_ones_as_numbers_are_asked_about() -> None:
    """Labels written as reals would be measured as a regression without a word."""
    y = torch.tensor([0.0, 1.0, 1.0])
    with pytest.raises(InputError, match="0.0 and 1.0 alone.*task='values'"):
        task_of((1,), y)
    assert task_of((1,), y, said="values").kind is Kind.VALUES
    assert task_of((1,), y / 2).kind is Kind.VALUES
