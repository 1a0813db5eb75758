"""Whatever file the user gives, the answer is a network or one clear line: no other exception."""

import contextlib
import io
import json
import pickle
import random
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from torch import nn

from spikemorph.convert import read_onnx, read_pt2, read_torch
from spikemorph.graph import Graph, GraphError, InputError, UnsupportedError, run

node = helper.make_node
NODES = [
    node("Conv", ["x", "w", "b"], ["c"], name="conv", pads=[1, 1, 1, 1]),
    node("BatchNormalization", ["c", "g", "b", "b", "v"], ["n"], name="norm"),
    node("Relu", ["n"], ["r"], name="relu"),
    node("Shape", ["r"], ["s"], name="sizes"),
    node("Slice", ["s", "zero", "one"], ["first"], name="slice"),
    node("Concat", ["first", "rest"], ["flat"], axis=0, name="join"),
    node("Reshape", ["r", "flat"], ["f"], name="flatten"),
    node("Gemm", ["f", "m"], ["y"], name="head"),
]
SHAPE = (2, 3, 4, 4)


def numbers(*shape: int) -> Any:
    return np.random.default_rng(shape).standard_normal(shape).astype(np.float32)


def weights() -> dict[str, Any]:
    ints = {k: np.array([v], np.int64) for k, v in (("zero", 0), ("one", 1), ("rest", -1))}
    found = {"w": numbers(4, 3, 3, 3), "b": numbers(4), "g": numbers(4), "v": numbers(4) ** 2}
    return {**found, "m": numbers(64, 5), **ints}


def refusal(path: Path, read: Callable[..., Graph] = read_onnx, *rest: Any) -> str:
    """The one line of the InputError that the file must raise, which names the file."""
    with pytest.raises(InputError) as caught:
        read(path, *rest)
    line = str(caught.value)
    assert str(path) in line and "\n" not in line
    return line


def saved_program(path: Path) -> bytes:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 5)).eval()
    torch.export.save(torch.export.export(model, (torch.randn(2, 3, 4, 4),)), path)
    return path.read_bytes()


@pytest.mark.parametrize("read", [read_onnx, read_pt2])
def test_missing_and_empty_files(read: Any, tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "none", read)
    assert "no such file" in refusal(tmp_path, read)
    (tmp_path / "empty").touch()
    assert "empty" in refusal(tmp_path / "empty", read)


@pytest.mark.parametrize("read", [read_onnx, read_pt2])
def test_random_bytes(read: Any, tmp_path: Path) -> None:
    path = tmp_path / "noise"
    for seed in range(200):
        draw = random.Random(seed)
        path.write_bytes(draw.randbytes(draw.randint(1, 300)))
        refusal(path, read)


@pytest.mark.parametrize("read", [read_onnx, read_pt2])
def test_a_pickled_checkpoint_is_never_loaded(read: Any, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    for new in (True, False):
        torch.save({"w": torch.ones(3)}, path, _use_new_zipfile_serialization=new)
        refusal(path, read)
    torch.save(nn.Linear(2, 2), path)
    assert "never loaded" in refusal(path, read)


def test_a_truncated_onnx_file(write_onnx: Any) -> None:
    """Cut anywhere, it is refused in one line."""
    path = write_onnx(NODES, SHAPE, weights())
    whole = path.read_bytes()
    for length in [*range(1, 60), *range(60, len(whole), 37), *range(len(whole) - 9, len(whole))]:
        path.write_bytes(whole[:length])
        refusal(path)


@pytest.mark.parametrize("seed", range(6))
def test_a_damaged_onnx_file(seed: int, write_onnx: Any) -> None:
    """With bytes changed it reads as some network or is refused, never anything else."""
    path = write_onnx(NODES, ("N", *SHAPE[1:]), weights())
    whole, draw = path.read_bytes(), random.Random(seed)
    structure = [k for k in range(len(whole)) if k < 900 or k > len(whole) - 250]
    for _ in range(150):
        changed = bytearray(whole)
        for _ in range(draw.randint(1, 3)):
            changed[draw.choice(structure)] = draw.randrange(256)
        path.write_bytes(bytes(changed))
        with contextlib.suppress(InputError, UnsupportedError):
            read_onnx(path)


def test_a_truncated_or_damaged_program(tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    whole, draw = saved_program(path), random.Random(0)
    for _ in range(60):
        path.write_bytes(whole[: draw.randrange(1, len(whole))])
        refusal(path, read_pt2)
    for _ in range(60):
        changed = bytearray(whole)
        changed[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        path.write_bytes(bytes(changed))
        with contextlib.suppress(InputError, UnsupportedError):
            read_pt2(path)


class Armed:
    """Unpickling it leaves a trace."""

    fired: list[int] = []

    def __reduce__(self) -> Any:
        return Armed.fired.append, (1,)


def rewritten(source: bytes, change: Callable[[str, bytes], bytes]) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(source)) as archive:
        for name in archive.namelist():
            yield name, change(name, archive.read(name))


def pickled_weight(name: str, content: bytes) -> bytes:
    if name.endswith("weight_0"):
        file = io.BytesIO()
        torch.save(Armed(), file)
        return file.getvalue()
    return content.replace(b'"use_pickle": false', b'"use_pickle": true')


def pickled_sample(name: str, content: bytes) -> bytes:
    return pickle.dumps(Armed()) if name.endswith(".pt") else content


def opaque_constant(name: str, content: bytes) -> bytes:
    if name.endswith("model_constants_config.json"):
        entry = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True}
        return json.dumps({"config": {"c": {**entry, "tensor_meta": None}}}).encode()
    return content


def armed_size(name: str, content: bytes) -> bytes:
    call = "__import__('os').getcwd()"
    return content.replace(
        b'"as_int": 2}', f'"as_expr": {{"expr_str": "{call}", "hint": null}}}}'.encode()
    )


@pytest.mark.parametrize(
    "change",
    [pickled_weight, opaque_constant, armed_size],
    ids=lambda f: f.__name__,
)
def test_a_program_that_would_run_code_when_loaded_is_refused(change: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    content = dict(rewritten(saved_program(path), change))
    with zipfile.ZipFile(path, "w") as archive:
        for name, part in content.items():
            archive.writestr(name, part)
    line = refusal(path, read_pt2)
    assert "member" in line
    assert not Armed.fired


def test_sample_inputs_are_not_read_at_all(tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    content = dict(rewritten(saved_program(path), pickled_sample))
    with zipfile.ZipFile(path, "w") as archive:
        for name, part in content.items():
            archive.writestr(name, part)
    assert read_pt2(path).outputs
    assert not Armed.fired


def test_a_program_with_foreign_members_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    saved_program(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("model/data/aotinductor/model/code.so", b"")
    assert "code.so" in refusal(path, read_pt2)


def test_a_plain_zip_is_no_program(tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/readme", b"hello")
    refusal(path, read_pt2)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(
    ("name", "index", "place"),
    [("w", (1, 2, 0, 1), "'conv', weight[1, 2, 0, 1]"), ("v", (3,), "'norm', variance[3]"),
     ("m", (7, 2), "'head', weight[2, 7]")],
)  # fmt: skip
def test_weights_that_are_not_finite_are_named(
    name: str, index: tuple[int, ...], place: str, value: float, write_onnx: Any
) -> None:
    stored = weights()
    stored[name][index] = value
    if (name, value) == ("v", -float("inf")):
        with pytest.raises(UnsupportedError, match=r"variance\[3\] is -inf"):
            read_onnx(write_onnx(NODES, SHAPE, stored))
        return
    line = refusal(write_onnx(NODES, SHAPE, stored))
    assert place in line and str(value) in line


def test_module_weights_that_are_not_finite_are_named() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    with torch.no_grad():
        model[0].weight[2, 1] = float("nan")  # type: ignore[index]
    with pytest.raises(InputError, match=r"Sequential: node '0', weight\[2, 1\] is nan"):
        read_torch(model, torch.zeros(1, 3))


def test_open_sizes_need_an_input_shape(write_onnx: Any) -> None:
    path = write_onnx(NODES, ("N", 3, "H", None), weights())
    assert "input_shape" in refusal(path)
    assert read_onnx(path, (1, 3, 4, 4)).outputs == ("head",)
    for wrong in ((1, 3, 4), (1, 4, 4, 4), (1, 3, 0, 4), (1, 3, 4, 4, 4)):
        assert "agree with them" in refusal(path, read_onnx, wrong)
    assert "input_shape" in refusal(write_onnx(NODES, None, weights()))
    assert read_onnx(write_onnx(NODES, None, weights()), (7, 3, 4, 4)).outputs == ("head",)


def test_an_input_shape_that_the_network_does_not_take_names_the_node(write_onnx: Any) -> None:
    path = write_onnx(NODES, ("N", 3, "H", "W"), weights())
    with pytest.raises(UnsupportedError) as caught:
        read_onnx(path, (1, 3, 5, 5))
    assert [problem.node for problem in caught.value.problems] == ["head"]


def test_data_of_another_shape_is_refused_when_running(write_onnx: Any) -> None:
    graph = read_onnx(write_onnx(NODES, SHAPE, weights()))
    with pytest.raises(GraphError, match="takes samples of shape"):
        run(graph, torch.zeros(2, 3, 5, 4))


def test_operator_sets_that_are_too_old_or_too_new(write_onnx: Any) -> None:
    relu = [node("Relu", ["x"], ["y"])]
    for version in (1, 6):
        line = refusal(write_onnx(relu, (2, 3), {}, version))
        assert f"operator set {version}" in line and "convert_version" in line
    newest = onnx.defs.onnx_opset_version()
    path = write_onnx(relu, (2, 3), {}, newest)
    model = onnx.load(path)
    model.opset_import[0].version = newest + 1
    path.write_bytes(model.SerializeToString())
    assert "upgrade onnx" in refusal(path)
    del model.opset_import[:]
    path.write_bytes(model.SerializeToString())
    assert "operator set" in refusal(path)


def changed(path: Path, change: Callable[[onnx.GraphProto], None]) -> Path:
    model = onnx.load(path)
    change(model.graph)
    path.write_bytes(model.SerializeToString())
    return path


def test_models_without_parts(write_onnx: Any) -> None:
    for part in ("node", "output", "input"):
        path = changed(write_onnx(NODES, SHAPE, weights()), lambda g, p=part: g.ClearField(p))
        refusal(path)


def test_outputs_that_nothing_makes_or_no_sample_changes(write_onnx: Any) -> None:
    relu = [node("Relu", ["x"], ["y"])]
    assert "'ghost'" in refusal(write_onnx(relu, (2, 3), {}, output="ghost"))
    path = write_onnx([*relu, node("Neg", ["c"], ["k"])], (2, 3), {"c": numbers(2)}, output="k")
    assert "does not depend on the input" in refusal(path)


def test_only_one_input_is_taken(write_onnx: Any) -> None:
    def second(graph: onnx.GraphProto) -> None:
        graph.input.append(helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, [2, 3]))

    path = changed(write_onnx([node("Add", ["x", "z"], ["y"])], (2, 3)), second)
    assert "['x', 'z']" in refusal(path)


def test_a_weight_whose_bytes_are_missing_is_named(write_onnx: Any) -> None:
    def cut(graph: onnx.GraphProto) -> None:
        graph.initializer[0].raw_data = graph.initializer[0].raw_data[:-4]

    assert "'w'" in refusal(changed(write_onnx(NODES, SHAPE, weights()), cut))


def test_weights_in_a_file_that_is_missing(write_onnx: Any) -> None:
    path = write_onnx(NODES, SHAPE, weights())
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="w.bin", size_threshold=0)
    read_onnx(path)
    (path.parent / "w.bin").unlink()
    assert "w.bin" in refusal(path)


def test_nodes_with_one_name_and_with_none_get_names_of_their_own(write_onnx: Any) -> None:
    nodes = [
        node("Relu", ["x"], ["a"], name="same"),
        node("Relu", ["a"], ["b"], name="same"),
        node("Relu", ["b"], ["c"], name="x"),
        node("Relu", ["c"], ["y"]),
    ]
    graph = read_onnx(write_onnx(nodes, (2, 3)))
    assert [n.name for n in graph.nodes] == ["x", "same", "same#2", "x#2", "Relu_y"]


def test_text_weights_and_foreign_domains_are_refused_by_node(write_onnx: Any) -> None:
    text = numpy_helper.from_array(np.array(["a", "b"], dtype=object))
    nodes = [node("Own", ["x"], ["a"], name="own", domain="com.example")]
    nodes += [node("Add", ["x", "t"], ["y"], name="sum")]

    def say(graph: onnx.GraphProto) -> None:
        graph.initializer.append(text)
        graph.initializer[-1].name = "t"

    with pytest.raises(UnsupportedError) as caught:
        read_onnx(changed(write_onnx(nodes, (2, 3)), say))
    assert [problem.node for problem in caught.value.problems] == ["own", "sum"]
