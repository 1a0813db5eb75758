"""Reading a model takes work and memory in proportion to its file, or names the node that does not."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from helpers import refused
from onnx import TensorProto, helper
from torch import Tensor, nn

from spikemorph.conversion import convert_graph
from spikemorph.convert import read_onnx, read_torch
from spikemorph.convert.readers.budget import SAMPLE
from spikemorph.graph import InputError, UnsupportedError
from spikemorph.graph.grid import Grid
from spikemorph.quant import Quantisation
from spikemorph.sources import factories
from spikemorph.sources.models import load_graph

node = helper.make_node
Run = Callable[..., tuple[int, str, str]]


def refusal(path: Path, *rest: Any) -> str:
    with pytest.raises(InputError) as caught:
        read_onnx(path, *rest)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    return str(caught.value)


def doubling(depth: int, last: str = "Relu") -> onnx.ModelProto:
    """Functions of which each calls the next twice."""
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("own", 1)]
    functions = []
    for k in range(depth):
        inner = f"F{k + 1}"
        body = [node(inner, ["a"], ["b"], domain="own"), node(inner, ["b"], ["c"], domain="own")]
        functions.append(helper.make_function("own", f"F{k}", ["a"], ["c"], body, opsets))
    end = node(last, ["a"], ["c"], domain="" if last == "Relu" else "own")
    functions.append(helper.make_function("own", f"F{depth}", ["a"], ["c"], [end], opsets))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 3])
    graph = helper.make_graph([node("F0", ["x"], ["y"], name="all", domain="own")], "g", [x], [y])
    return helper.make_model(graph, functions=functions, opset_imports=opsets, ir_version=8)


@pytest.mark.parametrize(("depth", "count"), [(14, 3 * 2**14 - 1), (40, 3 * 2**40 - 1)])
def test_functions_that_double_are_counted_not_unfolded(
    depth: int, count: int, tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(doubling(depth), path)
    assert f"node 'all' unfolds to {count} nodes" in refusal(path)


def test_functions_of_some_depth_are_unfolded(tmp_path: Path) -> None:
    onnx.save(doubling(5), tmp_path / "model.onnx")
    assert len(read_onnx(tmp_path / "model.onnx").nodes) == 1 + 2**5


def test_functions_that_call_themselves(tmp_path: Path) -> None:
    onnx.save(doubling(1, last="F0"), tmp_path / "model.onnx")
    assert "calls itself" in refusal(tmp_path / "model.onnx")


def ints(*values: int) -> Any:
    return np.array(values, np.int64)


ONE = np.ones(1, np.float32)
MANY = 10**9  # far more than a small file may compute, and more than memory holds
GROWING = {
    "Expand": ([node("Expand", ["one", "n"], ["k"], name="grows")], {"one": ONE, "n": ints(MANY)}),
    "ConstantOfShape": ([node("ConstantOfShape", ["n"], ["k"], name="grows")], {"n": ints(MANY)}),
    "Tile": ([node("Tile", ["one", "n"], ["k"], name="grows")], {"one": ONE, "n": ints(MANY)}),
    "Range": (
        [node("Range", ["a", "n", "d"], ["k"], name="grows")],
        {"a": np.array(0.0, np.float32), "n": np.array(1e9, np.float32),
         "d": np.array(1.0, np.float32)},
    ),
    "Add": (
        [node("Add", ["v", "h"], ["k"], name="grows")],
        {"v": np.ones((20000, 1), np.float32), "h": np.ones((1, 20000), np.float32)},
    ),
    "MatMul": (
        [node("MatMul", ["v", "h"], ["k"], name="grows")],
        {"v": np.ones((20000, 1), np.float32), "h": np.ones((1, 20000), np.float32)},
    ),
    "Gather": (
        [node("Gather", ["v", "i"], ["k"], name="grows")],
        {"v": np.ones((1, 20000), np.float32), "i": np.zeros(20000, np.int64)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GROWING)
def test_constants_that_grow_are_told_before_they_are_computed(name: str, write_onnx: Any) -> None:
    nodes, weights = GROWING[name]
    sums = [node("ReduceSum", ["k"], ["s"], keepdims=0), node("Add", ["x", "s"], ["y"])]
    line = refusal(write_onnx([*nodes, *sums], (2, 3), weights))
    assert f"node 'grows' ({name}): its constant value takes" in line


def test_what_nothing_reads_need_not_be_supported(write_onnx: Any) -> None:
    dead = [node("Neg", ["one"], ["a"]), node("Own", ["a"], ["b"], domain="com.example")]
    assert read_onnx(write_onnx([*dead, node("Relu", ["x"], ["y"])], (2, 3), {"one": ONE})).outputs


def test_constants_that_double_are_bounded_together(write_onnx: Any) -> None:
    nodes = [node("Concat", [f"c{k}"] * 2, [f"c{k + 1}"], axis=0, name=f"n{k}") for k in range(60)]
    sums = [node("ReduceSum", ["c60"], ["s"], keepdims=0), node("Add", ["x", "s"], ["y"])]
    assert "(Concat): its constant value takes" in refusal(
        write_onnx([*nodes, *sums], (2, 3), {"c0": ONE})
    )


@pytest.mark.parametrize("name", GROWING)
def test_constants_that_nothing_reads_cost_nothing(name: str, write_onnx: Any) -> None:
    nodes, weights = GROWING[name]
    more = [
        *nodes,
        node("Neg", ["k"], ["u"]),
        node("Relu", ["x"], ["y"]),
    ]  # nor does what reads them
    assert read_onnx(write_onnx(more, (2, 3), weights)).outputs


@pytest.mark.parametrize("op", ["Einsum", "Resize", "OneHot", "Loop", "Conv"])
def test_constants_are_computed_by_a_list_of_operators(op: str, write_onnx: Any) -> None:
    nodes = [node(op, ["w", "w"], ["k"], name="odd"), node("Add", ["x", "k"], ["y"])]
    with pytest.raises(UnsupportedError, match="'odd'.*computed on constants"):
        read_onnx(write_onnx(nodes, (2, 3), {"w": ONE}))


@pytest.mark.parametrize("shape", [(2**40, 3), (1, 2**40), (1, 2**20, 2**20), (2, -3), (-2, 3)])
def test_sizes_of_the_input_are_bounded(shape: tuple[int, ...], write_onnx: Any) -> None:
    assert "'x'" in refusal(write_onnx([node("Relu", ["x"], ["y"])], shape))


IMAGE = (1, 1, 8, 8)
LARGE = {
    "pads": node("Pad", ["x", "p"], ["y"], name="large"),
    "pool": node("MaxPool", ["x"], ["y"], name="large", kernel_shape=[10**5] * 2, pads=[99999] * 4),
    "mean": node("AveragePool", ["x"], ["y"], name="large", kernel_shape=[10**5] * 2,
                 pads=[99999] * 4, count_include_pad=1),
    "conv": node("Conv", ["x", "w"], ["y"], name="large", pads=[10**5] * 4),
}  # fmt: skip


@pytest.mark.parametrize("name", LARGE)
def test_what_a_sample_takes_is_bounded_at_every_node(name: str, write_onnx: Any) -> None:
    weights = {"p": ints(0, 0, 0, 0, 0, 0, 10**5, 10**5), "w": np.ones((1, 1, 3, 3), np.float32)}
    line = refusal(write_onnx([LARGE[name]], IMAGE, weights))
    assert "node 'large'" in line and str(SAMPLE) in line


def test_the_work_of_a_pool_is_bounded(write_onnx: Any) -> None:
    """Its values are few enough; its windows are large."""
    pool = node("MaxPool", ["x"], ["y"], name="slow", kernel_shape=[2000] * 2)
    assert "'slow' (MaxPool): it takes" in refusal(write_onnx([pool], (1, 1, 4000, 4000)))


@pytest.mark.parametrize("axes", [1, 3])
def test_windows_of_other_axes_than_the_positions_are_refused(axes: int, write_onnx: Any) -> None:
    pool = node("MaxPool", ["x"], ["y"], name="odd", kernel_shape=[1] * axes)
    with pytest.raises(UnsupportedError, match=f"'odd'.*windows have {axes} axes.*positions 2"):
        read_onnx(write_onnx([pool], IMAGE))


@pytest.mark.parametrize("pads", [[0, 2, 0, 0], [2, 0, 0, 0], [0, 0, 0, 2]])
def test_windows_of_padding_alone_are_refused_on_any_axis(pads: list[int], write_onnx: Any) -> None:
    pool = node("MaxPool", ["x"], ["y"], name="odd", kernel_shape=[2, 2], pads=pads)
    with pytest.raises(UnsupportedError, match="'odd'.*nothing but padding"):
        read_onnx(write_onnx([pool], IMAGE))


@pytest.mark.parametrize(
    "options",
    [{"group": 0}, {"group": -1}, {"strides": [0, 0]}, {"dilations": [0, 0]},
     {"dilations": [-1, 1]}, {"kernel_shape": [2**62, 2**62]}, {"pads": [2**62] * 4},
     {"strides": [2**62] * 2, "pads": [2**62] * 4}],
)  # fmt: skip
@pytest.mark.parametrize("op", ["Conv", "MaxPool", "AveragePool"])
def test_odd_numbers_of_windows_end_in_a_refusal(
    op: str, options: dict[str, Any], write_onnx: Any
) -> None:
    inputs = ["x", "w"] if op == "Conv" else ["x"]
    given = options if op == "Conv" else {"kernel_shape": [2, 2], **options}
    path = write_onnx(
        [node(op, inputs, ["y"], **given)], IMAGE, {"w": np.ones((1, 1, 3, 3), np.float32)}, 19
    )
    if ("group" if op != "Conv" else "kernel_shape") in options:
        assert read_onnx(path).outputs  # pools have no groups; a convolution's weight has its size
        return
    with pytest.raises((InputError, UnsupportedError)):
        read_onnx(path)


def external(path: Path, **told: str) -> Path:
    """A model whose weight lies where it is told."""
    weight = helper.make_tensor("w", TensorProto.FLOAT, [3], np.ones(3, np.float32).tobytes(), True)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 3])
    graph = helper.make_graph([node("Add", ["x", "w"], ["y"])], "g", [x], [y], [weight])
    stored = graph.initializer[0]
    stored.ClearField("raw_data")
    stored.data_location = TensorProto.EXTERNAL
    for key, value in told.items():
        stored.external_data.add(key=key, value=value)
    opsets = [helper.make_opsetid("", 13)]
    path.write_bytes(
        helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    )
    return path


@pytest.fixture
def beside(tmp_path: Path) -> Path:
    """A folder of models, with a file in it and one outside."""
    folder = tmp_path / "models"
    (folder / "sub").mkdir(parents=True)
    for place in (folder / "w.bin", folder / "sub" / "w.bin", tmp_path / "outside.bin"):
        place.write_bytes(np.arange(6, dtype=np.float32).tobytes())
    (folder / "link.bin").symlink_to(tmp_path / "outside.bin")
    (folder / "way").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe")
    return folder


@pytest.mark.parametrize("location", ["w.bin", "sub/w.bin", "./w.bin"])
def test_weights_in_files_of_the_folder_are_read(location: str, beside: Path) -> None:
    path = external(beside / "m.onnx", location=location, offset="8", length="12")
    (shift,) = [n.op.shift for n in read_onnx(path).nodes if hasattr(n.op, "shift")]
    assert shift.tolist() == [2.0, 3.0, 4.0]


@pytest.mark.parametrize(
    "told",
    [{"location": "../outside.bin"}, {"location": "sub/../../outside.bin"}, {"location": "link.bin"},
     {"location": "way/outside.bin"}, {"location": "/etc/hostname"}, {"location": "pipe"},
     {"location": ""}, {"location": "sub"}, {"location": "w.bin\0"}, {"location": "none.bin"},
     {"location": "w.bin", "offset": "-4"}, {"location": "w.bin", "offset": "20"},
     {"location": "w.bin", "length": "9" * 30}, {"location": "w.bin", "length": "1e1"},
     {"location": "w.bin", "offset": "999999999999", "length": "12"}],
)  # fmt: skip
def test_weights_outside_the_folder_or_their_file_are_refused(
    told: dict[str, str], beside: Path
) -> None:
    told = {"length": "12", **told} if told["location"] != "w.bin" else told
    assert "weight 'w'" in refusal(external(beside / "m.onnx", **told))


def test_tensors_of_nodes_lie_in_no_other_file(
    beside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where they do, the onnx package opens them wherever the program was started."""
    monkeypatch.chdir(beside)
    held = helper.make_tensor("k", TensorProto.FLOAT, [3], np.ones(3, np.float32).tobytes(), True)
    held.ClearField("raw_data")
    held.data_location = TensorProto.EXTERNAL
    held.external_data.add(key="location", value="w.bin")
    model = onnx.load_model_from_string(
        external(beside / "m.onnx", location="w.bin", length="12").read_bytes()
    )
    model.graph.node.insert(0, node("Constant", [], ["w2"], name="held", value=held))
    model.graph.node[1].input[1] = "w2"
    (beside / "m.onnx").write_bytes(model.SerializeToString())
    assert "node 'held'" in refusal(beside / "m.onnx")


@pytest.mark.parametrize("dims", [[-1], [-3], [2], [3, 2**40], [2**62, 4]])
def test_weights_have_the_sizes_that_they_say(dims: list[int], write_onnx: Any) -> None:
    path = write_onnx([node("Add", ["x", "w"], ["y"])], (2, 3), {"w": np.ones(3, np.float32)})
    model = onnx.load(path)
    model.graph.initializer[0].dims[:] = dims
    path.write_bytes(model.SerializeToString())
    assert "'w'" in refusal(path)


def test_ten_thousand_nodes_of_one_name(write_onnx: Any) -> None:
    """Names of their own are found without a search through all."""
    names = ["x", *(f"v{k}" for k in range(9999)), "y"]
    nodes = [node("Relu", [a], [b], name="n") for a, b in zip(names, names[1:], strict=False)]
    assert read_onnx(write_onnx(nodes, (2, 3))).outputs == ("n#10000",)


class Computes(nn.Module):
    """Adds a constant of its own making."""

    def __init__(self, make: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.make = make
        self.register_buffer("row", torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        self.make(self.row)  # what nothing reads costs nothing
        return torch.relu(x + self.make(self.row))


@pytest.mark.parametrize(
    "make",
    [lambda row: row.repeat(MANY)[:3], lambda row: torch.full((MANY,), 2.0)[:3],
     lambda row: torch.arange(MANY)[:3], lambda row: row.expand(MANY).clone()[:3],
     lambda row: (row.expand(50000, 1) + row.expand(1, 50000)).sum(),
     lambda row: row.expand(MANY).sum(), lambda row: row.expand(MANY).mean(),
     lambda row: row.expand(MANY).argmax() * 1.0],
)  # fmt: skip
def test_constants_of_a_module_are_told_before_they_are_computed(make: Any) -> None:
    with pytest.raises(InputError, match="Computes: node .*its constant value takes"):
        read_torch(Computes(make), torch.zeros(1, 3))


def test_constants_of_some_size_are_computed() -> None:
    assert read_torch(Computes(lambda row: row.repeat(10**6).sum()), torch.zeros(1, 3)).outputs


@pytest.fixture
def weights_file(tmp_path: Path) -> Path:
    return tmp_path / "weights.pt"


def test_a_state_dict_is_read(weights_file: Path) -> None:
    module = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    torch.save(module.state_dict(), weights_file)
    found = factories.read_weights(weights_file)
    assert found.keys() == module.state_dict().keys()
    assert all(torch.equal(found[key], value) for key, value in module.state_dict().items())


@pytest.mark.parametrize("old", [True, False])
@pytest.mark.parametrize(
    "state",
    [{"w": bytearray(9)}, {"w": torch.ones(1).expand(10**9)}, {"w": torch.eye(3).to_sparse()},
     {"w": nn.Linear(2, 2)}, [torch.ones(2)], {3: torch.ones(2)}, {"w": {"v": torch.ones(2)}}],
)  # fmt: skip
def test_a_state_dict_of_anything_else_is_refused(
    state: Any, old: bool, weights_file: Path
) -> None:
    torch.save(state, weights_file, _use_new_zipfile_serialization=not old)
    with pytest.raises(InputError) as caught:
        factories.read_weights(weights_file)
    assert str(weights_file) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
def test_noise_is_no_state_dict(name: str, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    for length in (0, 1, 8, 9, 64, 4096):
        (tmp_path / name).write_bytes(draw.bytes(length))
        with pytest.raises(InputError, match=name):
            factories.read_weights(tmp_path / name)


FACTORY = """
from torch import nn
def trained(): return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))
def ready(): return trained().eval()
kept = trained()
def again(): return kept
"""


def test_a_model_in_training_mode_is_switched_and_that_is_said(
    spikemorph: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_factory.py").write_text(FACTORY)
    monkeypatch.syspath_prepend(tmp_path)
    _, _, said = spikemorph("inspect", "own_factory:trained", "--input-shape", "1,3")
    assert said.count("\n") == 1 and "training mode" in said and "own_factory:trained" in said
    assert spikemorph("inspect", "own_factory:ready", "--input-shape", "1,3")[2] == ""
    module = __import__("own_factory").kept
    before = {key: value.clone() for key, value in module.state_dict().items()}
    load_graph("own_factory:again", input_shape=(1, 3))
    assert all(part.training for part in module.modules())
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())


def test_a_model_without_activations_is_not_converted() -> None:
    graph = read_torch(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), torch.zeros(1, 4))
    with pytest.raises(UnsupportedError, match="nothing would spike"):
        convert_graph(graph, torch.rand(8, 4), grid=Grid.of(0.0, 1.0), quantisation=Quantisation())


CASES = Path(__file__).parents[4] / "shared" / "cases" / "hostile"


@pytest.mark.skipif(not CASES.is_dir(), reason="the cases are not beside the checkout")
@pytest.mark.parametrize("name", ["02_billion_laughs", "02_onnx_expand_hang", "05_onnx_huge_dim"])
def test_hostile_models_end_in_one_line(name: str, spikemorph: Run) -> None:
    refused(spikemorph("inspect", CASES / f"{name}.onnx"), name)
