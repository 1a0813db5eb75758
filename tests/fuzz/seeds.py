"""The small valid files that inputs are made from, each written by the package's own commands."""

import contextlib
import io
import os
import pickle
import shutil
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import numpy as np
import torch

from spikemorph.cli import options
from spikemorph.surrogate.folded_network import save_deployed
from spikemorph.surrogate.folding import fold
from spikemorph.surrogate.trained_file import load_trained

from . import models
from .arrays import npz
from .commands import call, replaced
from .inputs import Files
from .workers import room

RECIPE = """
name = "small"
model = "m.onnx"
seed = 1
[data]
train = "x.npz"
test = "t.npz"
[training]
epochs = 1
batch = 4
[fine_tuning]
epochs = 1
batch = 4
[time]
steps = 2
calibration_steps = 4
calibration_samples = 4
[measure]
spiking = 4
energy = 2
[attack]
eps = ["8/255"]
attacks = "pgd=2,refine=2"
ann = "pgd=2,refine=0"
patience = "1,2"
samples = 4
gate_samples = 0
in_time_gates = 0
[[network]]
name = "dense"
[[network]]
name = "timed"
method = "magnitude"
sparsity = 0.5
road = "through-time"
"""
FULL = """
name = "full"
model = "m.onnx"
mean = [0.5]
std = [0.25]
seed = 3
[data]
train = "x.npz"
test = "t.npz"
extra = "x.npz"
extra_share = 0.25
labeller = "zoo:digits_mlp"
[training]
epochs = 3
batch = 4
rate = 0.1
decay = 1e-4
smoothing = 0.0
shift = 1
flip = true
held_out = 2
precision = "32-true"
objective = "trades"
eps = "16/255"
attack_steps = 2
beta = 6.0
average = "ema"
select = true
[convert]
levels = 8
weight_bits = 4
neuron = "st-bif"
schedule = "wait"
coding = "analog"
calibrator = "percentile=99.9"
input_bits = 12
[time]
steps = 4
leak = 0.9
reset = "soft"
percentile = 99.0
scale = 0.5
surrogate = "arctan 2"
[attack]
eps = ["8/255", 0.1]
attacks = "apgd-ce=5,square=10,refine=2"
in_time = "pgd=2,refine=0"
patience = "0"
paths = "all"
in_time_paths = "paper"
ann = "apgd-ce=5,fgsm,refine=0"
norm = "linf"
samples = 4
corruptions = true
transfer = true
[[network]]
name = "first"
method = "train"
fresh = true
road = "quantisation-aware"
fine_tuning = { epochs = 1, rate = 0.01 }
[[network]]
name = "second"
start = "first"
method = "rigl"
sparsity = 0.5
allocation = "erk"
training = { epochs = 2, objective = "pgd", beta = 0.0, average = "none" }
attacked = false
"""
FINETUNE = ("finetune", "graph.safetensors", "--data", "x.npz", "--epochs", "2", "--batch", "4",
            "--held-out", "0", "--checkpoint", "ck", "--out", "o.safetensors")  # fmt: skip
ATTACK = ("attack", "net.safetensors", "--data", "x.npz", "--eps", "8/255", "--attacks",
          "pgd=2,refine=0", "--patience", "0",
          "--gates", "0", "--samples", "4", "--block", "2", "--folder", "blocks", "--quiet")  # fmt: skip


def data(seed: int = 0) -> bytes:
    """Eight samples of 4x4 with labels of three classes."""
    rng = np.random.default_rng(seed)
    return npz(x=rng.random((8, 1, 4, 4), np.float32), y=np.arange(8) % 3)


def sequences() -> bytes:
    """Eight sequences of one to six elements with labels of three classes."""
    rng = np.random.default_rng(3)
    held = {"x": rng.random((8, 6, 3), np.float32), "y": np.arange(8) % 3}
    return npz(**held, lengths=np.array([6, 6, 1, 2, 3, 4, 5, 6]))


def recordings() -> bytes:
    """A file of recordings by ten people, shorter than real ones."""
    held = {
        "X": [np.full((101, 6), float(index), order="F") for index in range(140)],
        "y": np.arange(140) % 7,
        "subject": np.arange(140) % 10 + 1,
    }
    header = b"\x93NUMPY\x01\x00v\x00" + b" " * 118
    return header + pickle.dumps(np.array([held], dtype=object), protocol=2)


@contextlib.contextmanager
def bench() -> Iterator[Path]:
    """A folder to work in, in silence; then all is as before."""
    before, folder = Path.cwd(), room()
    os.chdir(folder)
    try:
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            yield folder
    finally:
        os.chdir(before)
        shutil.rmtree(folder, ignore_errors=True)


def _must(*words: object) -> None:
    if (status := call(*words)) != 0:
        said = getattr(sys.stderr, "getvalue", str)()
        raise AssertionError(f"{words}: exit status {status} on files that are valid: {said}")


@cache
def networks() -> Mapping[str, bytes]:
    """One file of every kind of network, and data for them."""
    with bench() as folder:
        (folder / "m.onnx").write_bytes(models.convolutional())
        (folder / "j.onnx").write_bytes(models.joined())
        (folder / "x.npz").write_bytes(data())
        (folder / "t.npz").write_bytes(data(1))
        _must("prune", "m.onnx", "--method", "magnitude", "--sparsity", "0.5", "--data", "x.npz",
              "--epochs", "1", "--batch", "4", "--out", "graph.safetensors")  # fmt: skip
        _must("convert", "m.onnx", "--data", "x.npz", "--out", "net.safetensors")
        _must(
            "convert",
            "j.onnx",
            "--data",
            "x.npz",
            "--levels",
            "4",
            "--neuron",
            "few-spikes",
            "--schedule",
            "wait",
            "--out",
            "few.safetensors",
        )
        _must(
            "convert",
            "m.onnx",
            "--data",
            "x.npz",
            "--rate-coded",
            "layer=99.9",
            "--neuron",
            "if",
            "--out",
            "rated.safetensors",
        )
        _must("finetune", "m.onnx", "--data", "x.npz", "--epochs", "1", "--batch", "4", "--held-out",
              "0", "--road", "through-time", "--steps", "2", "--out", "timed.safetensors")  # fmt: skip
        module, notes = load_trained(folder / "timed.safetensors")
        save_deployed(folder / "folded.safetensors", fold(module), notes)
        return _files(folder)


@cache
def streams() -> Mapping[str, bytes]:
    """A recurrent network, a sequence for it, and its state after that."""
    with bench() as folder:
        (folder / "m.onnx").write_bytes(models.recurrent())
        (folder / "s.npz").write_bytes(sequences())
        _must("convert", "m.onnx", "--data", "s.npz", "--carry", "delta", "--input-range", "0,1",
              "--out", "gru.safetensors")  # fmt: skip
        _must("stream", "gru.safetensors", "--data", "s.npz", "--save-state", "state.safetensors")
        return _files(folder)


@cache
def run() -> Mapping[str, bytes]:
    """The folder of a recipe that was carried out."""
    with bench() as folder:
        for name, content in inputs_of_run().items():
            (folder / name).write_bytes(content)
        _must("run", "recipe.toml", "--out", "run")
        return {k: v for k, v in _files(folder).items() if k.startswith("run/")}


def inputs_of_run() -> Files:
    """What the recipe reads."""
    return {
        "recipe.toml": RECIPE.encode(),
        "m.onnx": models.convolutional(),
        "x.npz": data(),
        "t.npz": data(1),
    }


@cache
def blocks() -> Mapping[str, bytes]:
    """The blocks that an attack leaves."""
    with bench() as folder:
        for name in ("net.safetensors", "x.npz"):
            (folder / name).write_bytes(networks()[name])
        _must(*ATTACK)
        return {k: v for k, v in _files(folder).items() if k.startswith("blocks/")}


@cache
def checkpoint() -> bytes:
    """What a training leaves that was stopped after its first epoch."""

    def stop(_: object) -> None:
        raise KeyboardInterrupt

    with bench() as folder:
        for name in ("graph.safetensors", "x.npz"):
            (folder / name).write_bytes(networks()[name])
        replaced(options, "tell_epoch", stop, lambda: call(*FINETUNE))
        return (folder / "ck").read_bytes()


@cache
def programs() -> Mapping[str, bytes]:
    """Programs that torch exports."""
    generator = torch.Generator().manual_seed(0)
    first = torch.nn.Sequential(
        torch.nn.Conv2d(1, 2, 3, padding=1), torch.nn.BatchNorm2d(2), torch.nn.ReLU(),
        torch.nn.MaxPool2d(2), torch.nn.Flatten(), torch.nn.Linear(8, 3),
    )  # fmt: skip
    for parameter in first.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    found = {}
    for name, shapes in (("fixed", None), ("open", ({0: torch.export.Dim.AUTO},))):
        out, x = io.BytesIO(), torch.zeros(2, 1, 4, 4)
        torch.export.save(torch.export.export(first.eval(), (x,), dynamic_shapes=shapes), out)
        found[name] = out.getvalue()
    return found


def _files(folder: Path) -> Files:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}
