"""Torch modules are read as torch runs them, and as their ONNX export is read."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from onnx import helper
from torch import Tensor, nn

from spikemorph.convert import canonical, read_onnx, read_pt2, read_torch
from spikemorph.convert.readers.read_torch import read_program
from spikemorph.graph import Graph, InputError, UnsupportedError, run
from spikemorph.graph.saving import load_graph_file, save_graph


class Does(nn.Module):
    """A module that computes a function of its input and a scale."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.scale = nn.Parameter(torch.tensor([[0.5], [-1.5], [2.0]]))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, self.scale)


def filled(model: nn.Module, seed: int = 0) -> nn.Module:
    """The module in evaluation mode with random parameters, gains of both signs among them."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in [*model.named_parameters(), *model.named_buffers()]:
            if value.is_floating_point() and value.numel() > 1:
                value.copy_(torch.randn(value.shape, generator=random) * 0.5)
                if name.endswith("running_var"):
                    value.abs_().add_(0.1)
    return model.eval()


def samples(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


FAMILIES: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "conv 1": (nn.Conv1d(4, 6, 3, stride=2, padding=1, dilation=2, groups=2), (4, 11)),
    "conv 2": (nn.Conv2d(3, 4, (3, 2), padding=(2, 1), bias=False), (3, 6, 5)),
    "conv 3": (nn.Conv3d(2, 3, 2, stride=(1, 2, 1)), (2, 4, 5, 6)),
    "conv same": (nn.Conv2d(3, 4, (4, 3), padding="same", dilation=(1, 2)), (3, 6, 5)),
    "conv valid": (nn.Conv2d(3, 4, 3, padding="valid"), (3, 6, 5)),
    "depthwise": (nn.Conv2d(4, 8, 3, groups=4, padding=1), (4, 5, 5)),
    "linear": (nn.Linear(5, 4), (5,)),
    "linear over positions": (nn.Linear(5, 4, bias=False), (3, 5)),
    "norm 1": (nn.BatchNorm1d(4), (4,)),
    "norm 1 over positions": (nn.BatchNorm1d(4, affine=False), (4, 6)),
    "norm 2": (nn.BatchNorm2d(4, eps=1e-2), (4, 3, 3)),
    "norm 3": (nn.BatchNorm3d(4), (4, 3, 2, 2)),
    "relu": (nn.ReLU(), (9,)),
    "relu6": (nn.ReLU6(), (9,)),
    "hardtanh": (nn.Hardtanh(-0.3, 0.6), (9,)),
    "sigmoid": (nn.Sigmoid(), (9,)),
    "hardsigmoid": (nn.Hardsigmoid(), (9,)),
    "tanh": (nn.Tanh(), (9,)),
    "leaky": (nn.LeakyReLU(0.2), (9,)),
    "prelu": (nn.PReLU(), (3, 9)),
    "clamp": (Does(lambda x, s: x.clamp(min=-0.2).clamp(max=0.4)), (9,)),
    "max 1": (nn.MaxPool1d(3, 2, padding=1, dilation=2), (3, 9)),
    "max 2": (nn.MaxPool2d(3, 2, padding=1, ceil_mode=True), (3, 8, 7)),
    "max 3": (nn.MaxPool3d(2, (1, 2, 2)), (2, 4, 5, 6)),
    "average 1": (nn.AvgPool1d(3, 2, padding=1), (3, 9)),
    "average 2": (nn.AvgPool2d(3, 2, padding=1, ceil_mode=True), (3, 8, 7)),
    "average 2 inside": (
        nn.AvgPool2d(3, 2, padding=1, ceil_mode=True, count_include_pad=False), (3, 8, 7)),
    "average 3": (nn.AvgPool3d(2, padding=1, count_include_pad=False), (2, 4, 5, 6)),
    "global average": (nn.AdaptiveAvgPool2d(1), (3, 4, 6)),
    "adaptive average": (nn.AdaptiveAvgPool2d((2, 3)), (3, 4, 6)),
    "adaptive average of itself": (nn.AdaptiveAvgPool2d((4, 6)), (3, 4, 6)),
    "adaptive max": (nn.AdaptiveMaxPool2d((2, 1)), (3, 4, 6)),
    "global max": (nn.AdaptiveMaxPool1d(1), (3, 6)),
    "mean": (Does(lambda x, s: x.mean((2, 3)) + x.amax((-1, -2))), (3, 4, 6)),
    "arithmetic": (Does(lambda x, s: 1 - (x * s + x / 3 - 0.5).sub(2 * x, alpha=2)), (3, 4)),
    "constants": (Does(lambda x, s: torch.add(s, x, alpha=-2) + s.exp() * x), (3, 4)),
    "gate": (Does(lambda x, s: x * x.sigmoid() * s.relu()), (3, 4)),
    "squeeze and excite": (Does(lambda x, s: x.mean((2, 3), keepdim=True).sigmoid() * x), (3, 4, 5)),
    "negative": (Does(lambda x, s: torch.rsub(-x, 3.0, alpha=2)), (3, 4)),
    "concat": (Does(lambda x, s: torch.cat([x, x * 2, x], dim=-1)), (3, 4)),
    "flatten": (nn.Flatten(), (3, 4, 5)),
    "reshape": (Does(lambda x, s: x.view(x.size(0), -1, 2).unsqueeze(1).squeeze(1)), (3, 4)),
    "transpose": (Does(lambda x, s: x.permute(0, 2, 1).transpose(1, 2).contiguous()), (3, 4)),
    "pad": (nn.ZeroPad2d((1, 2, 0, 3)), (3, 4, 5)),
    "dropout": (nn.Sequential(nn.Dropout(), nn.Identity(), nn.Dropout2d()), (3, 4, 5)),
    "softmax": (nn.Softmax(dim=-1), (3, 4)),
    "log softmax": (nn.LogSoftmax(dim=1), (5,)),
    "split": (Does(lambda x, s: torch.cat(x.split([1, 3, 2], dim=1)[::-1], 1)), (6,)),
    "chunk": (Does(lambda x, s: torch.cat(x.chunk(3, dim=2)[1:], 2)), (3, 7)),
    "slice": (Does(lambda x, s: x[:, 1:, -3:] + x[:, :2].narrow(2, 1, 3)), (3, 6)),
    "select": (Does(lambda x, s: x[:, -1] + x[:, 0]), (3, 6)),
}  # fmt: skip


@pytest.mark.parametrize("name", FAMILIES)
def test_family_computes_what_torch_does(name: str, error_of: Any) -> None:
    """Within 1e-5, as read and in canonical form."""
    module, shape = FAMILIES[name]
    model, x = filled(copy.deepcopy(module)), samples(5, *shape)
    graph = read_torch(model, x[:1])
    with torch.no_grad():
        want = model(x)
    for form in (graph, canonical(graph)):
        assert error_of(run(form, x), want) <= 1e-5


class Branches(nn.Module):
    """Residual and concatenated paths with batch norms everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.entry = nn.BatchNorm2d(3)
        self.first = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU())
        self.left = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1, groups=2), nn.BatchNorm2d(6))
        self.right = nn.Sequential(nn.AvgPool2d(3, 1, 1, count_include_pad=False))
        self.pool = nn.MaxPool2d(2, ceil_mode=True)
        self.norm = nn.BatchNorm2d(12)
        self.last = nn.Conv2d(12, 4, 3, padding=1, bias=False)
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(self.entry(x))
        x = torch.cat([torch.relu(self.left(x) + x), self.right(x)], dim=1)
        x = torch.tanh(self.last(self.norm(self.pool(x))))
        return torch.softmax(self.head(x.mean((2, 3))), dim=1)


def plain_net() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2), nn.ReLU6(), nn.AvgPool2d(2), nn.Dropout(),
        nn.LeakyReLU(0.01), nn.Flatten(), nn.Linear(24, 10), nn.Sigmoid(), nn.Linear(10, 4),
    )  # fmt: skip


def one_dimensional() -> nn.Module:
    return nn.Sequential(
        nn.BatchNorm1d(3), nn.Conv1d(3, 8, 3, padding=1), nn.Hardtanh(), nn.MaxPool1d(2),
        nn.BatchNorm1d(8), nn.Conv1d(8, 4, 2), nn.AvgPool1d(5), nn.Flatten(),
    )  # fmt: skip


NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "branches": (Branches, (3, 9, 8)),
    "plain": (plain_net, (3, 12, 10)),
    "one-dimensional": (one_dimensional, (3, 12)),
}


@pytest.mark.parametrize("name", NETS)
def test_export_to_onnx_gives_the_same_canonical_graph(
    name: str, tmp_path: Path, same_network: Any
) -> None:
    """Same ops in the same order, tensors equal to float64 rounding."""
    build, shape = NETS[name]
    model, x = filled(build()), samples(2, *shape)
    path = tmp_path / "model.onnx"
    torch.onnx.export(model, (x,), path, dynamo=True, optimize=False, verbose=False)
    same_network(canonical(read_torch(model, x)), canonical(read_onnx(path)))


def test_a_file_written_by_hand_gives_the_same_canonical_graph(
    write_onnx: Any, same_network: Any
) -> None:
    """The same weights, spelled by helper.make_node; an eps of 1e-5 is single precision there."""
    model = filled(nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(),
                                 nn.Linear(27, 4), nn.LeakyReLU(0.1)))  # fmt: skip
    node, stored = helper.make_node, {k: v.numpy() for k, v in model.state_dict().items()}
    norm = ["1.weight", "1.bias", "1.running_mean", "1.running_var"]
    nodes = [
        node("Conv", ["x", "0.weight", "0.bias"], ["a"], kernel_shape=[3, 3]),
        node("BatchNormalization", ["a", *norm], ["b"], epsilon=1e-5),
        node("Relu", ["b"], ["c"]),
        node("Flatten", ["c"], ["d"]),
        node("Gemm", ["d", "4.weight", "4.bias"], ["e"], transB=1),
        node("LeakyRelu", ["e"], ["y"], alpha=0.1),
    ]
    read = read_onnx(write_onnx(nodes, (1, 2, 5, 5), stored))
    same_network(canonical(read), canonical(read_torch(model, samples(1, 2, 5, 5))))


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Linear(4, 4)
        self.tied = nn.Linear(4, 4)
        self.tied.weight = self.shared.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.tied(torch.relu(self.shared(torch.relu(self.shared(x)))))


def test_a_module_called_twice_is_two_nodes_with_one_tensor(tmp_path: Path) -> None:
    """Also after saving; a weight that two modules share is one tensor too."""
    graph = read_torch(filled(Twice()), samples(1, 4))
    path = tmp_path / "net.safetensors"
    save_graph(path, graph)
    for found in (graph, load_graph_file(path)):
        first, second, tied = (found[name].op for name in ("shared", "shared#2", "tied"))
        assert first.weight is second.weight is tied.weight  # type: ignore[attr-defined]
        assert first.bias is second.bias and first.bias is not tied.bias  # type: ignore[attr-defined]


def test_the_users_module_is_left_as_it_is() -> None:
    """Training flags, parameters, buffers, gradients and torch's random numbers."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.ReLU())
    model.train()
    model[1].eval()
    flags = [part.training for part in model.modules()]
    before = {key: value.clone() for key, value in model.state_dict().items()}
    torch.manual_seed(3)
    want = torch.rand(1)
    torch.manual_seed(3)
    read_torch(model, samples(1, 3, 6, 6))
    assert torch.equal(torch.rand(1), want)
    assert [part.training for part in model.modules()] == flags
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def changed_behind_a_view(x: Tensor, s: Tensor) -> Tensor:
    y = x * 1.0
    flat = y.flatten(1)
    y.relu_()
    return flat


def changed_through_a_view(x: Tensor, s: Tensor) -> Tensor:
    y = x * 1.0
    y.flatten(1).relu_()
    return y


def changed_and_read_again(x: Tensor, s: Tensor) -> Tensor:
    y = x * 1.0
    z = y.relu_()
    return y + z.add_(x)


@pytest.mark.parametrize(
    "function", [changed_behind_a_view, changed_through_a_view, changed_and_read_again]
)
def test_changes_in_place_are_seen_by_every_reader(function: Any, error_of: Any) -> None:
    model, x = Does(function), samples(4, 3, 5)
    with torch.no_grad():
        want = model(x.clone())
    assert error_of(run(read_torch(model, x), x), want) <= 1e-6


class Counts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.calls.add_(1)  # type: ignore[operator]
        return x * self.calls


REFUSED: dict[str, tuple[nn.Module, tuple[int, ...], str]] = {
    "random constant": (Does(lambda x, s: x + torch.rand(4)), (4,), "random"),
    "random noise": (Does(lambda x, s: x + torch.rand_like(x)), (4,), "rand_like"),
    "a state": (Counts(), (4,), "stored tensor"),
    "samples mixed": (Does(lambda x, s: x.softmax(0)), (4,), "samples"),
    "samples dropped": (Does(lambda x, s: x[:1]), (4,), "samples"),
    "integers": (Does(lambda x, s: x.to(torch.int64).float()), (4,), "rounds"),
    "a quotient": (Does(lambda x, s: x / x.sigmoid()), (4,), "by another"),
    "indices": (Does(lambda x, s: nn.functional.max_pool1d(x, 2, return_indices=True)[1] * 1.0),
                (3, 4), "reads output 1"),
    "strided slice": (Does(lambda x, s: x[:, ::2]), (4,), "steps"),
    "uneven windows": (nn.AdaptiveAvgPool1d(3), (2, 7), "differ in size"),
}  # fmt: skip


def test_outputs_have_samples_first_wherever_the_module_puts_them() -> None:
    """As recurrent layers that take samples second leave them."""
    x = samples(3, 4, 5)
    model = Does(lambda x, s: torch.cat([x.transpose(0, 1).relu(), x.permute(1, 0, 2)], 2)[1:])
    torch.testing.assert_close(run(read_torch(model, x), x), model(x).transpose(0, 1))


@pytest.mark.parametrize("what", REFUSED)
def test_nothing_is_passed_through_silently(what: str) -> None:
    model, shape, reason = REFUSED[what]
    with pytest.raises(UnsupportedError, match=reason) as caught:
        read_torch(model, samples(2, *shape))
    assert all(problem.repair and problem.node for problem in caught.value.problems)


def test_every_call_that_cannot_be_taken_is_named() -> None:
    model = nn.Sequential(nn.GELU(), nn.ReLU(), nn.SiLU(), nn.Sequential(nn.LayerNorm(4)))
    with pytest.raises(UnsupportedError) as caught:
        read_torch(model, samples(1, 4))
    named = [(problem.node, problem.op) for problem in caught.value.problems]
    assert named == [("0", "gelu"), ("2", "silu"), ("3.0", "layer_norm")]


def test_models_that_cannot_be_traced_are_refused_in_one_line() -> None:
    fails = Does(lambda x, s: x if x.sum() > 0 else -x)
    for model, example in ((fails, samples(1, 4)), (nn.Linear(3, 2), samples(1, 4))):
        with pytest.raises(InputError, match="cannot trace it") as caught:
            read_torch(model, example)
        assert "\n" not in str(caught.value)
    for example in (samples(4), samples(0, 4)):
        with pytest.raises(InputError, match="give one sample"):
            read_torch(nn.ReLU(), example)


@pytest.mark.parametrize("decomposed", [False, True])
def test_a_saved_program_reads_as_its_module(
    decomposed: bool, tmp_path: Path, same_network: Any
) -> None:
    """Fixed batch, open batch, and in the core operators that other tools export."""
    model, x = filled(Branches()), samples(2, 3, 9, 8)
    want = canonical(read_torch(model, x))
    for batch in (None, ({0: torch.export.Dim("batch")},)):
        program = torch.export.export(model, (x,), dynamic_shapes=batch)
        path = tmp_path / "model.pt2"
        torch.export.save(program.run_decompositions() if decomposed else program, path)
        same_network(canonical(read_pt2(path)), want)


def test_only_one_input_is_taken() -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return x + y

    program = torch.export.export(Two(), (samples(2, 3), samples(2, 3)))
    with pytest.raises(InputError, match="one input"):
        read_program(program, "two")


def test_several_outputs_are_read_but_not_run() -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x.relu(), x.tanh()

    graph: Graph = read_torch(Two(), samples(1, 3))
    assert len(graph.outputs) == 2
