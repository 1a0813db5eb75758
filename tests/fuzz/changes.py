"""How each format is forged: bytes in, bytes out."""

import json
import tomllib
from dataclasses import replace
from random import Random
from typing import Any

import onnx
import torch
from safetensors.torch import save

from spikemorph.graph.containers import content_of
from spikemorph.train.checkpoint import _STATE, _plain, _state

from .protos import forge, messages
from .stores import other_tensor
from .trees import forged, json_of, places, toml_of
from .zips import forged_archive, unzipped, zipped

_OPERATORS = (
    *(
        "Conv",
        "Relu",
        "Gemm",
        "MatMul",
        "Add",
        "Mul",
        "Reshape",
        "Expand",
        "Range",
        "Tile",
        "Einsum",
    ),
    *("ConstantOfShape", "Constant", "Shape", "Size", "Gather", "Concat", "Pad", "Clip", "Softmax"),
    *(
        "Loop",
        "If",
        "Scan",
        "Resize",
        "OneHot",
        "NonZero",
        "Where",
        "Cast",
        "Split",
        "Slice",
        "Pow",
    ),
    *("RandomNormal", "Transpose", "Squeeze", "LSTM", "BatchNormalization", "MaxPool", "Flatten"),
    *("StringNormalizer", "Twice", "Often", "own", "ai.onnx", "location", "offset", "length"),
)
_CALLS = (
    *(
        "torch.ops.aten.relu.default",
        "torch.ops.aten.from_file.default",
        "torch.ops.aten.expand.default",
    ),
    *(
        "torch.ops.aten.zeros.default",
        "torch.ops.aten.repeat.default",
        "_operator.getitem",
        "math.pow",
    ),
    *("torch.ops.aten.full.default", "torch.ops.aten.mm.default", "os.system", "builtins.eval"),
    *(
        "torch.ops.aten.conv2d.default",
        "torch.ops.aten.einsum.default",
        "torch.sym_max",
        "s0",
        "Symbol('s0')",
    ),
)


def with_other_message(data: bytes, rng: Random) -> bytes:
    """An ONNX file with one field of one message changed."""
    model = onnx.ModelProto.FromString(data)
    forge(model, rng, _words(model))
    return model.SerializeToString()


def with_other_shapes(data: bytes, rng: Random) -> bytes:
    """An ONNX file with another number among its sizes, or among the whole numbers of a weight."""
    model = onnx.ModelProto.FromString(data)
    found = list(messages(model))
    sized = [m for m in found if isinstance(m, onnx.TensorProto) and (m.dims or m.raw_data)]
    item = rng.choice(sized)
    if item.data_type == onnx.TensorProto.INT64 and item.raw_data and rng.random() < 0.7:
        k = 8 * rng.randrange(len(item.raw_data) // 8)
        number = rng.choice((0, 1, -1, 2, 7, 4096, 2**20, 2**31, 2**40, 2**62, -(2**63)))
        item.raw_data = (
            item.raw_data[:k] + number.to_bytes(8, "little", signed=True) + item.raw_data[k + 8 :]
        )
    elif item.dims:
        item.dims[rng.randrange(len(item.dims))] = rng.choice((0, 1, 2, -1, 3, 2**20, 2**40, 2**62))
    values = [m for m in found if isinstance(m, onnx.TensorShapeProto.Dimension)]
    if rng.random() < 0.3 and values:
        rng.choice(values).dim_value = rng.choice((0, 1, -1, 5, 2**20, 2**31, 2**40, 2**62))
    return model.SerializeToString()


def with_extreme_weights(data: bytes, rng: Random) -> bytes:
    """An ONNX file whose weights are finite, or not, and far from usual."""
    model = onnx.ModelProto.FromString(data)
    floats = [w for w in model.graph.initializer if w.data_type == 1 and w.raw_data]
    item = rng.choice(floats)
    values = onnx.numpy_helper.to_array(item).copy().reshape(-1)
    place = slice(None) if rng.random() < 0.3 else rng.randrange(len(values))
    values[place] = rng.choice(
        (0, 1e-16, 1e16, 1e-38, 3e38, -3e38, 1e-45, float("nan"), float("inf"), -1, 1e6)
    )
    item.raw_data = values.tobytes()
    return model.SerializeToString()


def with_other_scan(data: bytes, rng: Random) -> bytes:
    """An ONNX file with one lie of a Scan: what is scanned, what its body takes, gives and holds."""
    model = onnx.ModelProto.FromString(data)
    nodes = [m for m in messages(model.graph) if isinstance(m, onnx.NodeProto)]
    scan = rng.choice([node for node in nodes if node.op_type in ("Scan", "Loop")])
    rng.choice(_LIES)(scan, next(item.g for item in scan.attribute if item.HasField("g")), rng)
    return model.SerializeToString()


def _told(scan: Any, body: Any, rng: Random) -> None:
    item = rng.choice([item for item in scan.attribute if not item.HasField("g")])
    if item.type == onnx.AttributeProto.INT:
        item.i = rng.choice((0, 1, 2, 3, 4, -1, 2**40))
    else:
        values = [rng.choice((0, 1, 2, -1, -2, 2**40)) for _ in range(rng.randrange(4))]
        item.ints[:] = values


def _order(scan: Any, body: Any, rng: Random) -> None:
    items = rng.choice((scan.input, scan.output, body.input, body.output, body.node))
    kept = rng.sample([*items], len(items))
    del items[:]
    items.extend(kept)


def _often(scan: Any, body: Any, rng: Random) -> None:
    """Ever more outputs, of a body of ever more nodes."""
    for _ in range(rng.choice((1, 10, 300))):
        body.node.add(
            op_type="Relu", input=[body.node[-1].output[0]], output=[f"r{len(body.node)}"]
        )
    more = rng.choice((0, 1, 10, 300, 3000))
    body.output.extend([body.output[-1]] * more)
    scan.output.extend(f"o{k}" for k in range(more))
    for item in scan.attribute:
        if item.name.startswith("scan_output"):
            item.ints.extend([item.ints[-1]] * (len(body.output) - len(item.ints) - 2))


def _deep(scan: Any, body: Any, rng: Random) -> None:
    """A scan in its own body, and so on."""
    for _ in range(rng.choice((1, 2, 5, 20))):
        held = scan.SerializeToString()
        if len(held) < 1 << 18:
            body.node.add().ParseFromString(held)


def _turned(scan: Any, body: Any, rng: Random) -> None:
    """A Loop: how often, whether it goes on, states."""
    scan.op_type = "Scan" if scan.op_type == "Loop" else "Loop"


def _passed(scan: Any, body: Any, rng: Random) -> None:
    """What is given out, or read, is something else of inside or of outside."""
    names = [n.name for n in (*body.input, *body.output, *body.initializer)]
    names += [*scan.input, *scan.output, "x"]
    if rng.random() < 0.5:
        rng.choice(body.output).name = rng.choice(names)
    else:
        node = rng.choice(body.node)
        node.input[rng.randrange(len(node.input))] = rng.choice(names)


_LIES = (_told, _told, _order, _often, _deep, _turned, _passed, _passed)


def _words(model: Any) -> tuple[str, ...]:
    nodes = [m for m in messages(model.graph) if isinstance(m, onnx.NodeProto)]
    names = {value for node in nodes for value in (*node.input, *node.output, node.name)}
    return (*sorted(names), *_OPERATORS)


def with_other_archive(data: bytes, rng: Random) -> bytes:
    """A zip archive with one lie in it; members that torch would unpickle or evaluate among them."""
    archive = unzipped(data)
    top = archive.members[0].name.partition(b"/")[0]
    names = (
        top + b"/models/model.json",
        top + b"/models/model.json\0",
        top + b"/data.pkl",
        top + b"/version",
    )
    return zipped(forged_archive(archive, rng, names))


def with_other_program(data: bytes, rng: Random) -> bytes:
    """A .pt2 archive with another description of its program."""
    archive = unzipped(data)
    texts = [k for k, m in enumerate(archive.members) if m.name.endswith(b".json")]
    programs = [k for k in texts if b"/models/" in archive.members[k].name]
    k = rng.choice(texts + programs * 4)
    tree = json.loads(archive.members[k].content)
    spots = [(h, key) for h, key in places(tree) if isinstance(h[key], str)]
    if spots and rng.random() < 0.3:
        holder, key = rng.choice(spots)
        holder[key] = rng.choice((*_CALLS, *(h[n] for h, n in spots)))
    else:
        tree = forged(tree, rng)
    members = list(archive.members)
    members[k] = replace(members[k], content=json_of(tree))
    return zipped(replace(archive, members=tuple(members)))


def with_other_member(data: bytes, rng: Random) -> bytes:
    """A zip archive with one damaged member under a right checksum."""
    archive = unzipped(data)
    members = list(archive.members)
    k = rng.randrange(len(members))
    content = bytearray(members[k].content or b"\0")
    for _ in range(rng.choice((1, 4))):
        content[rng.randrange(len(content))] = rng.randrange(256)
    cut = rng.randrange(len(content)) if rng.random() < 0.3 else len(content)
    members[k] = replace(members[k], content=bytes(content[:cut]))
    return zipped(replace(archive, members=tuple(members)))


def with_other_state(data: bytes, rng: Random) -> bytes:
    """A training's checkpoint with another value somewhere."""
    content = content_of(data, "checkpoint")
    state = _state(json.loads(content.texts[_STATE]), content.tensors("checkpoint"))
    spots = places(state)
    holder, key = rng.choice(spots)
    if isinstance(holder[key], torch.Tensor) and rng.random() < 0.8:
        holder[key] = other_tensor(holder[key], rng)
    else:
        plain = {"it": {k: None if isinstance(v, torch.Tensor) else v for k, v in _items(holder)}}
        other = forged(plain, rng)
        changed = other.get("it") if isinstance(other, dict) else other
        if isinstance(changed, dict) and isinstance(holder, dict):
            kept = {k: v for k, v in holder.items() if isinstance(v, torch.Tensor)}
            holder.clear()
            holder.update({**changed, **kept})
        else:
            holder[key] = changed
    tensors: dict[str, torch.Tensor] = {}
    text = json.dumps(_plain(state, tensors))
    return save(tensors, metadata={_STATE: text})


def _items(holder: Any) -> Any:
    return holder.items() if isinstance(holder, dict) else enumerate(holder)


def with_other_json(data: bytes, rng: Random) -> bytes:
    """JSON with one place changed."""
    return json_of(forged(json.loads(data), rng))


def with_other_toml(data: bytes, rng: Random) -> bytes:
    """TOML with one place changed."""
    return toml_of(forged(tomllib.loads(data.decode()), rng))
