"""What an output means: every task counted by hand, and one logit equal to its two-logit twin."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import draw, refused
from torch import Tensor, nn

from spikemorph import convert_graph
from spikemorph.convert import read_torch
from spikemorph.graph import Graph, InputError, run
from spikemorph.graph.grid import UNIT, Grid
from spikemorph.graph.interpret import shapes
from spikemorph.graph.saving import save_graph
from spikemorph.graph.tasks import Distance, Kind, Task, task_of
from spikemorph.measures.evaluation import evaluate, measure
from spikemorph.quant import Quantisation
from spikemorph.sources.subjects import open_float
from spikemorph.spiking import DenseEngine
from spikemorph.spiking.exits import ExitRule
from spikemorph.train import DataTensors
from spikemorph.train.measure import score
from spikemorph.train.objectives import CrossEntropy, TaskLoss, TwoSided

Run = Callable[..., tuple[int, str, str]]
SAMPLES = 60


class Squeezed(nn.Module):
    """A network without an axis of features: (sample,)."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x).squeeze(-1)


def drawn(model: nn.Module, seed: int = 0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.5
    return model.eval()


def graph_of(model: nn.Module, *shape: int) -> Graph:
    return read_torch(model, torch.zeros(1, *shape)).declare(UNIT)


def flat(*last: nn.Module) -> nn.Module:
    return drawn(nn.Sequential(nn.Flatten(), nn.Linear(8, 12), nn.ReLU(), *last))


def per_position(classes: int = 3) -> nn.Module:
    return drawn(nn.Sequential(nn.Conv1d(2, 6, 3, padding=1), nn.ReLU(), nn.Conv1d(6, classes, 1)))


def images() -> Tensor:
    return draw(SAMPLES, 2, 4, seed=3).sigmoid()


def converted(graph: Graph, x: Tensor) -> Any:
    return convert_graph(graph, x, grid=Grid.of(0, 1), quantisation=Quantisation(levels=16))


def evaluated(graph: Graph, y: Tensor | None, **more: Any) -> Any:
    made = converted(graph, images())
    steps = [made.certificate.steps_required]
    return evaluate(
        made.network, DenseEngine(made.network), made.certificate, images(), y, steps=steps,
        float_graph=made.float_graph, **more,
    )  # fmt: skip


def test_answers_by_hand() -> None:
    classes = Task(Kind.CLASSES, (3, 2))
    outputs = torch.tensor(
        [[[0.0, 5.0], [2.0, 1.0], [1.0, 5.5]]]
    )  # (1 sample, 3 classes, 2 places)
    assert classes.answers(outputs).tolist() == [[1, 2]]
    assert classes.answers(outputs[None]).tolist() == [[[1, 2]]]
    assert classes.share(torch.tensor([[1, 2], [0, 0]]), torch.tensor([[1, 0], [0, 0]])) == 75.0
    logits = torch.tensor([-0.5, 0.0, 0.25])
    assert Task(Kind.BINARY, (1,)).answers(logits).tolist() == [0, 0, 1]
    assert Task(Kind.BINARY, (1,), 0.5).answers(logits[:, None]).tolist() == [0, 0, 0]
    apart = Distance.between(torch.tensor([[1.0], [3.0]]), torch.tensor([[2.0], [6.0]]))
    # errors -1 and -3: rms sqrt(5), mean 2; targets vary by 4 + 4 around 4: 1 - 10 / 8
    assert apart == Distance(pytest.approx(5**0.5), 2.0, -0.25)
    assert Distance.between(torch.ones(2, 1), torch.zeros(2, 1)).r2 is None


@pytest.mark.parametrize(
    ("shape", "y", "sigmoid", "kind"),
    [
        ((3,), torch.tensor([0, 2]), False, Kind.CLASSES),
        ((3,), None, False, Kind.CLASSES),
        ((3,), torch.zeros(2, 3), False, Kind.VALUES),
        ((1,), torch.tensor([0, 1]), False, Kind.BINARY),
        ((), torch.tensor([0, 1]), True, Kind.BINARY),
        ((1,), torch.tensor([0.5, 1.0]), False, Kind.VALUES),
        ((1,), None, False, Kind.VALUES),
        ((1,), None, True, Kind.BINARY),
        ((3, 7), torch.zeros(2, 7, dtype=torch.int64), False, Kind.CLASSES),
    ],
)
def test_the_task_is_inferred(shape: Any, y: Tensor | None, sigmoid: bool, kind: Kind) -> None:
    task = task_of(shape, y, sigmoid=sigmoid)
    assert task.kind is kind
    assert task.threshold == (0.5 if sigmoid and kind is Kind.BINARY else 0.0)
    task.require(y, "data")


def test_what_does_not_fit_a_task_is_refused() -> None:
    with pytest.raises(InputError, match="one output and labels run from 0 to 7"):
        task_of((1,), torch.tensor([0, 7]))
    assert task_of((1,), torch.tensor([0, 7]), said="values").kind is Kind.VALUES
    with pytest.raises(InputError, match="task binary: the network has outputs of shape"):
        task_of((3,), None, said="binary")
    with pytest.raises(InputError, match="task classes"):
        task_of((1,), None, said="classes")
    with pytest.raises(InputError, match="choose one of classes, binary, values"):
        task_of((3,), None, said="regression")
    task = Task(Kind.CLASSES, (3, 4))
    with pytest.raises(InputError, match=r"labels of shape \(\) a sample.*shape \(4,\)"):
        task.require(torch.tensor([0, 1]), "data")
    with pytest.raises(InputError, match=r"sample 1, position \(2,\), has label 3"):
        task.require(torch.tensor([[0, 1, 2, 0], [0, 0, 3, 0]]), "data")
    with pytest.raises(InputError, match="real numbers"):
        Task(Kind.CLASSES, (3,)).require(torch.zeros(2), "data")
    with pytest.raises(InputError, match="sample 1 has a target"):
        Task(Kind.VALUES, (1,)).require(torch.tensor([0.0, float("inf")]), "data")


def twin_of(model: nn.Sequential) -> nn.Module:
    """The same network with logits ``-z / 2`` and ``z / 2``."""
    *body, last = model
    two = nn.Linear(last.in_features, 2)
    two.weight.data = torch.cat([-last.weight.data / 2, last.weight.data / 2])
    two.bias.data = torch.cat([-last.bias.data / 2, last.bias.data / 2])
    return nn.Sequential(*body, two).eval()


def test_one_logit_equals_its_two_logit_twin() -> None:
    """Accuracy, agreement, exits, losses, attacked logits: the same numbers."""
    model = flat(nn.Linear(12, 1))
    assert isinstance(model, nn.Sequential)
    one, two = graph_of(model, 2, 4), graph_of(twin_of(model), 2, 4)
    y = (run(one, images())[:, 0] > draw(SAMPLES)).to(torch.int64)
    task = task_of((1,), y)
    assert torch.allclose(task.two_sided(run(one, images())), run(two, images()), atol=1e-6)
    rule = ExitRule("confidence", 0.7)
    left, right = (evaluated(graph, y, exit_rule=rule) for graph in (one, two))
    assert left.task == "binary" and right.task == "classes"
    assert 20 < left.float_accuracy < 100
    for name in ("float_accuracy", "integer_accuracy", "exit"):
        assert getattr(left, name) == getattr(right, name), name
    assert left.curve[-1].agreement == right.curve[-1].agreement == 100
    nothing = torch.Generator()
    modules: list[Any] = [lambda x, g=graph: run(g, x) for graph in (one, two)]
    plain = CrossEntropy(0.1)(modules[1], images(), y, nothing)
    assert torch.allclose(task.loss(run(one, images()), y, 0.1), plain)
    seen = TwoSided(CrossEntropy(0.1), task)(model, images(), y, nothing)
    assert torch.allclose(seen, plain)
    attacked = [open_float("net", graph).target.logits(images()) for graph in (one, two)]
    assert torch.allclose(*attacked, atol=1e-6)


@pytest.mark.parametrize("order", ["sigmoid first", "squeeze first", "no squeeze"])
def test_behind_a_sigmoid_the_answer_is_one_above_a_half(order: str) -> None:
    plain = flat(nn.Linear(12, 1))
    ends = {
        "sigmoid first": Squeezed(nn.Sequential(plain, nn.Sigmoid())),
        "squeeze first": nn.Sequential(Squeezed(plain), nn.Sigmoid()),
        "no squeeze": nn.Sequential(plain, nn.Sigmoid()),
    }
    y = (run(graph_of(plain, 2, 4), images())[:, 0] > 0).to(torch.int64)
    assert 10 < int(y.sum()) < SAMPLES - 10
    graph = graph_of(ends[order].eval(), 2, 4)
    assert shapes(graph)[graph.outputs[0]] == (1,)
    found = evaluated(graph, y)
    assert (found.task, found.float_accuracy) == ("binary", 100.0)
    assert found.integer_accuracy > 90 and found.curve[-1].agreement == 100
    assert found.curve[-1].mismatching_logits == 0


def test_numbers_are_told_by_how_far_they_lie_apart() -> None:
    graph = graph_of(Squeezed(flat(nn.Linear(12, 1))).eval(), 2, 4)
    floats = run(graph, images())[:, 0]
    found = evaluated(graph, floats + 0.5)
    assert (found.task, found.float_accuracy, found.curve[-1].agreement) == ("values", None, None)
    assert found.error.float_to_targets.rmse == pytest.approx(0.5, abs=1e-5)
    gap = found.error.integer_to_float.rmse
    assert 0 < gap < 0.2
    assert abs(found.error.integer_to_targets.rmse - 0.5) <= gap
    assert found.curve[-1].error.rmse == 0.0  # settled: the integer network's, bit for bit
    with pytest.raises(InputError, match="outputs are numbers, not classes"):
        evaluated(graph, floats, exit_rule=ExitRule("confidence", 0.7))


def test_answers_at_positions_are_counted_at_each() -> None:
    graph = graph_of(per_position(), 2, 4)
    y = run(graph, images()).argmax(1)
    y[:, 0] = (y[:, 0] + 1) % 3  # one of four places is wrong in every sample
    found = evaluated(graph, y)
    assert (found.task, found.float_accuracy) == ("classes", 75.0)
    assert found.curve[-1].agreement == 100
    assert evaluated(graph, y, exit_rule=ExitRule("silent")).exit.agreement == 100
    with pytest.raises(InputError, match="answers at 4 positions"):
        evaluated(graph, y, exit_rule=ExitRule("confidence", 0.7))


def test_no_steps_are_refused() -> None:
    made = converted(graph_of(flat(nn.Linear(12, 3)), 2, 4), images())
    engine = DenseEngine(made.network)
    with pytest.raises(InputError, match="0 steps"):
        measure(made.network, engine, images(), 0)
    with pytest.raises(InputError, match="0 steps"):
        evaluate(made.network, engine, made.certificate, images(), None, steps=[])


def test_a_score_is_per_cent_or_an_error() -> None:
    model = flat(nn.Linear(12, 1))
    z = model(images()).detach()
    data = DataTensors(images(), z + 2)
    assert score(model, data, Task(Kind.VALUES, (1,))) == pytest.approx(2.0, abs=1e-5)
    right = DataTensors(images(), (z[:, 0] > 0).to(torch.int64))
    assert score(model, right, Task(Kind.BINARY, (1,))) == 100.0
    loss = TaskLoss(Task(Kind.VALUES, (1,)))(model, images(), z + 2, torch.Generator())
    assert float(loss.detach()) == pytest.approx(4.0, abs=1e-4)


CASES: dict[str, tuple[nn.Module, str, str]] = {
    "binary": (flat(nn.Linear(12, 1)), "accuracy %", "held-out accuracy"),
    "values": (flat(nn.Linear(12, 1)), "rmse to targets", "root mean square error"),
    "positions": (per_position(), "accuracy %", "held-out accuracy"),
}


def written(tmp_path: Path, name: str) -> tuple[Path, Path]:
    model, data = tmp_path / "model.safetensors", tmp_path / "data.npz"
    graph = graph_of(CASES[name][0], 2, 4)
    save_graph(model, graph)
    outputs = run(graph, images())
    y = {
        "binary": (outputs[:, 0] > 0).to(torch.int64) if name == "binary" else None,
        "values": outputs.squeeze(1) if name == "values" else None,
        "positions": outputs.argmax(1),
    }[name]
    assert y is not None
    np.savez(data, x=images().numpy(), y=y.numpy())
    return model, data


@pytest.mark.parametrize("name", CASES)
def test_every_command_reads_outputs_alike(name: str, spikemorph: Run, tmp_path: Path) -> None:
    model, data = written(tmp_path, name)
    net, sparse, told = (tmp_path / f for f in ("net.safetensors", "s.safetensors", "told.json"))
    status, out, err = spikemorph(
        "convert", model, "--data", data, "--calibration", data, "--out", net, "--json", told
    )
    if status == 2:  # the same samples: cut in halves instead
        status, out, err = spikemorph(
            "convert", model, "--data", data, "--out", net, "--json", told
        )
    assert status == 0, err
    assert CASES[name][1].split()[0] in out
    first = json.loads(told.read_text())
    assert first["task"] == ("classes" if name == "positions" else name)
    if name == "values":
        assert first["float_accuracy"] is None and "accuracy %" not in out
        assert first["error"]["float_to_targets"]["rmse"] < 1e-5
    else:
        assert first["float_accuracy"] == 100 and "error" not in first
    assert spikemorph("certify", net, "--data", data)[0] == 0
    status, out, err = spikemorph("evaluate", net, "--data", data, "--json", told)
    assert status == 0, err
    whole = json.loads(told.read_text())
    assert (whole["n"], whole["task"]) == (SAMPLES, first["task"])
    learn = ["--data", data, "--epochs", 1, "--held-out", 20, "--smoothing", 0]
    status, out, err = spikemorph(
        "prune", model, "--method", "magnitude", "--sparsity", 0.2, *learn, "--out", sparse
    )
    assert status == 0, err
    assert CASES[name][2] in " ".join(out.split())
    status, out, err = spikemorph("attack", net, "--data", data, "--eps", "0.01", "--gates", 0,
                                  "--attacks", "pgd=2,refine=0", "--patience", "0",
                                  "--json", told)  # fmt: skip
    if name == "binary":
        assert status == 0, err
        assert json.loads(told.read_text())["clean"]["accuracy"] == whole["integer_accuracy"]
    else:
        refused((status, out, err), "attack:")


def test_a_task_that_contradicts_is_refused(spikemorph: Run, tmp_path: Path) -> None:
    model, data = written(tmp_path, "binary")
    command = ["convert", model, "--data", data, "--out", tmp_path / "net.safetensors"]
    refused(spikemorph(*command, "--task", "classes"), "two or more are expected")
    refused(spikemorph(*command, "--task", "colours"), "choose one of")
    assert spikemorph(*command, "--task", "values")[0] == 0
