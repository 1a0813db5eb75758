"""Every kind of file that the package reads, as a row: seeds, changes, and the commands that read it."""

import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from spikemorph.recipes.recipe import read_recipe
from spikemorph.recipes.stages.bench import Bench
from spikemorph.recipes.stages.order import check
from spikemorph.sources import factories
from spikemorph.sources import models as found_models
from spikemorph.sources.models import load_graph
from spikemorph.zoo import cards, derived, load_data
from spikemorph.zoo.datasets import data_catalogue

from . import arrays, changes, models, pictures, seeds, stores
from .commands import replaced
from .inputs import Files, Loader

_DATA = ("--data", "x.npz")
_SEQUENCES = ("--data", "s.npz")
_OUT = ("--out", "o.safetensors")
_PGD = (
    "--quiet",
    "--eps",
    "8/255",
    "--attacks",
    "pgd=2,refine=0",
    "--patience",
    "0",
    "--gates",
    "0",
    "--samples",
    "4",
)


def _one(name: str, **contents: Callable[[], bytes]) -> Callable[[], Mapping[str, Files]]:
    """Seeds of a single file."""

    @cache
    def made_once() -> Mapping[str, Files]:
        return {seed: {name: content()} for seed, content in contents.items()}

    return made_once


def _network(name: str) -> Callable[[], bytes]:
    return lambda: seeds.networks()[name]


def _beside(*names: str) -> Callable[[], Files]:
    return lambda: {name: seeds.networks()[name] for name in names}


def _along(*names: str) -> Callable[[], Files]:
    return lambda: {name: seeds.streams()[name] for name in names}


@cache
def _onnx() -> Mapping[str, Files]:
    made_ = (models.convolutional, models.joined, models.computed)
    return {f.__name__: {"m.onnx": f()} for f in made_} | {"outside": models.outside()}


@cache
def _pt2() -> Mapping[str, Files]:
    return {name: {"m.pt2": content} for name, content in seeds.programs().items()}


@cache
def _weights() -> Mapping[str, Files]:
    state = {"a.weight": torch.ones(3, 4), "a.bias": torch.zeros(3)}
    return {"safetensors": {"w.safetensors": save(state)}, "torch": {"w.pt": _saved(state)}}


def _saved(state: Any) -> bytes:
    with seeds.bench() as folder:
        torch.save(state, folder / "w.pt")
        return (folder / "w.pt").read_bytes()


def _read_weights(folder: Path) -> object:
    """As ``--weights`` does, without tracing the module anew."""
    module = torch.nn.ModuleDict({"a": torch.nn.Linear(4, 3)})
    (path,) = folder.glob("w.*")
    return factories.load_weights(module, path, "module")


@cache
def _pictures() -> Mapping[str, Files]:
    draw = pictures.picture
    kinds = (
        ("L", "BMP"),
        ("RGB", "JPEG"),
        ("P", "GIF"),
        ("1", "PNG"),
        ("RGB", "WEBP"),
        ("L", "TIFF"),
    )
    mixed = {
        f"images/{k}.{form.lower()}": draw((4, 4), mode, form, k)
        for k, (mode, form) in enumerate(kinds)
    }
    return {"mixed": mixed}


@cache
def _grey() -> Mapping[str, Files]:
    return {"grey": {f"images/c{k}/{k}.png": pictures.picture((4, 4), seed=k) for k in range(3)}}


def _read_samples(folder: Path) -> object:
    return load_data(str(folder / "x.npz")).values()


def _read_pictures(folder: Path) -> object:
    return load_data(str(folder / "images")).x.sum()


@cache
def _kept() -> Mapping[str, Files]:
    """What the cache of data sets holds: fewer samples than the real one, in the same formats."""
    images, labels = pictures.idx((4, 28, 28)), pictures.idx((4,), classes=10)
    plain = {"t10k-images-idx3-ubyte": images, "t10k-labels-idx1-ubyte": labels}
    strip = {"test_batch.png": pictures.picture((3, 1024), "RGB"), "test_labels.json": b"[1, 2, 3]"}
    vowels = ":".join(["0.5,-1.25,3"] * 12) + ":7\n"
    lines = {"JapaneseVowels_TEST.ts": f"# it\n@data\n{vowels}{vowels}".encode()}
    watch = {"watch_dataset.npy": seeds.recordings()}
    return {"mnist": plain, "cifar10": strip, "vowels": lines, "smartwatch": watch}


def _read_kept(folder: Path) -> object:
    names = {path.name for path in folder.iterdir()}
    downloads = ((entry, entry.download) for entry in data_catalogue())
    entry = next(e for e, download in downloads if download and names & set(download.files))
    return entry.splits["test"].read(folder)


@cache
def _cards() -> Mapping[str, Files]:
    places = Path(found_models.__file__).resolve().parents[2] / "zoo" / "models"
    shipped = sorted(places.glob("*.made.json"))[:3] + [places / "digits_mlp.json"]
    return {path.name: {path.name: path.read_bytes()} for path in shipped}


def _read_card(folder: Path) -> object:
    """As ``zoo:NAME`` does, with the installation's folder replaced by this one."""
    (path,) = folder.glob("*.json")

    def read() -> int:
        if path.name.endswith(".made.json"):
            return bool(derived.made_card(path.name.removesuffix(".made.json")).to_dict())
        return bool(cards.load_model_card(path.stem).to_dict())

    shipped = lambda file: (folder / file).read_bytes()  # noqa: E731
    return replaced(
        derived, "_folder", lambda: folder, lambda: replaced(cards, "_shipped", shipped, read)
    )


def _check_recipe(folder: Path) -> object:
    """All that ``run`` checks of a recipe before it makes anything, on a small model."""
    recipe = read_recipe(folder / "recipe.toml")
    samples = load_data("x.npz")
    model = load_graph("graph.safetensors")
    for network in recipe.network:
        bench = Bench(
            recipe, network, model, samples, samples, folder / "run", None, lambda _: None
        )
        check(bench)
    return recipe


@cache
def _parts() -> Mapping[str, Files]:
    """The plain data of runs, which their report is made of."""
    found = {}
    for road in ("dense", "timed"):
        files = {
            k.rpartition("/")[2]: v for k, v in seeds.run().items() if k.startswith(f"run/{road}/")
        }
        plain = {
            k: v
            for k, v in files.items()
            if k.endswith(".json") and k not in ("stages.json", "identity.json")
        }
        found[road] = {f"r/{k}": _smaller(v) for k, v in plain.items() if k != "report.json"}
    return found


@cache
def _reports() -> Mapping[str, Files]:
    names = {road: f"run/{road}/report.json" for road in ("dense", "timed")}
    return {road: {"report.json": _smaller(seeds.run()[name])} for road, name in names.items()}


def _smaller(content: bytes) -> bytes:
    return json.dumps(json.loads(content)).encode()


@cache
def _runs() -> Mapping[str, Files]:
    files = {k: v for k, v in seeds.run().items() if not k.endswith(".html")}
    return {"run": files}


@cache
def _blocks() -> Mapping[str, Files]:
    return {"blocks": dict(seeds.blocks())}


_JSON = (changes.with_other_json,)
_STORE = (stores.with_content, stores.with_content, stores.with_header)
_ZIP = (changes.with_other_archive, changes.with_other_member)
_ONNX = (
    *(changes.with_other_message,) * 3,
    *(changes.with_other_shapes, changes.with_extreme_weights),
)
_SCANS = (*_ONNX, *(changes.with_other_scan,) * 2)
_NPZ = (arrays.with_other_header, arrays.with_other_arrays, arrays.with_other_zip)
_PARTS_OF_A_RUN = tuple(
    f"{name}.json"
    for name in (
        *("stages", "comparison", "evaluation", "energy", "timing", "robust", "robustness"),
        *("reproduce", "identity", "sparsity"),
    )
)
# A row: name, seeds, changes, commands, share of a campaign (cheap ones get more), files beside.
_ROWS = (
    Loader(
        "onnx", _onnx, _ONNX,
        (("inspect", "m.onnx"),) * 3 + (("convert", "m.onnx", *_DATA, *_OUT),),
        16, _beside("x.npz"), (".onnx", ".bin"),
    ),
    Loader(
        "cells", _one("m.onnx", gru=models.recurrent, scan=models.scanned), _SCANS,
        (("inspect", "m.onnx"),) * 3 + (("convert", "m.onnx", *_SEQUENCES, *_OUT),),
        6, _along("s.npz"),
    ),
    Loader(
        "pt2", _pt2, (*_ZIP, *(changes.with_other_program,) * 3),
        (("inspect", "m.pt2"),) * 4 + (("convert", "m.pt2", *_DATA, *_OUT),),
        3, _beside("x.npz"),
    ),
    Loader("weights", _weights, (*_ZIP, stores.with_header), (_read_weights,), 24),
    Loader(
        "graph", _one("g.safetensors", graph=_network("graph.safetensors")), _STORE,
        (
            ("inspect", "g.safetensors"),
            ("convert", "g.safetensors", *_DATA, *_OUT),
            ("attack", "g.safetensors", *_DATA, *_PGD),
        ),
        8, _beside("x.npz"),
    ),
    Loader(
        "network",
        _one("n.safetensors", **{k: _network(f"{k}.safetensors") for k in ("net", "few")}),
        _STORE,
        (
            ("evaluate", "n.safetensors", *_DATA),
            ("certify", "n.safetensors", "--out", "c.json"),
            ("energy", "n.safetensors", *_DATA),
            ("attack", "n.safetensors", *_DATA, *_PGD),
            ("compare", "n.safetensors", "net.safetensors", *_DATA),
        ),
        6, _beside("x.npz", "net.safetensors"),
    ),
    Loader(
        "rated", _one("n.safetensors", rated=_network("rated.safetensors")), _STORE,
        (("evaluate", "n.safetensors", *_DATA),), 2, _beside("x.npz"),
    ),
    Loader(
        "timed", _one("t.safetensors", timed=_network("timed.safetensors")), _STORE,
        (("evaluate", "t.safetensors", *_DATA), ("attack", "t.safetensors", *_DATA, *_PGD)),
        4, _beside("x.npz"),
    ),
    Loader(
        "deployed", _one("d.safetensors", folded=_network("folded.safetensors")), _STORE,
        (("evaluate", "d.safetensors", *_DATA),), 10, _beside("x.npz"),
    ),
    Loader(
        "recurrent", _one("n.safetensors", gru=lambda: seeds.streams()["gru.safetensors"]), _STORE,
        (
            ("evaluate", "n.safetensors", *_SEQUENCES),
            ("stream", "n.safetensors", *_SEQUENCES),
            ("certify", "n.safetensors", *_SEQUENCES, "--out", "c.json"),
        ),
        6, _along("s.npz"),
    ),
    Loader(
        "state", _one("state.safetensors", kept=lambda: seeds.streams()["state.safetensors"]), _STORE,
        (("stream", "gru.safetensors", *_SEQUENCES, "--state", "state.safetensors"),),
        6, _along("s.npz", "gru.safetensors"),
    ),
    Loader("npz", _one("x.npz", data=seeds.data), _NPZ, (_read_samples,), 24),
    Loader(
        "samples", _one("x.npz", data=seeds.data), _NPZ,
        (
            ("evaluate", "net.safetensors", *_DATA),
            ("certify", "net.safetensors", *_DATA, "--out", "c.json"),
            ("energy", "net.safetensors", *_DATA),
            ("convert", "graph.safetensors", *_DATA, *_OUT),
            ("attack", "timed.safetensors", *_DATA, *_PGD),
        ),
        4, _beside("net.safetensors", "graph.safetensors", "timed.safetensors"),
    ),
    Loader("pictures", _pictures, (pictures.with_other_chunks,), (_read_pictures,), 20, bytewise=0.6),
    Loader(
        "images", _grey, (pictures.with_other_chunks,),
        (("evaluate", "net.safetensors", "--data", "images"),), 2, _beside("net.safetensors"),
    ),
    Loader("kept", _kept, (pictures.with_other_chunks,), (_read_kept,), 24, bytewise=0.6),
    Loader("cards", _cards, _JSON, (_read_card,), 30),
    Loader(
        "recipe", _one("recipe.toml", small=seeds.RECIPE.encode, full=seeds.FULL.encode),
        (changes.with_other_toml,), (_check_recipe,), 24, _beside("x.npz", "graph.safetensors"),
        bytewise=0.1,
    ),
    Loader("parts", _parts, _JSON, (("report", "r"),), 4, changed=(".json",), bytewise=0.1),
    Loader(
        "report", _reports, _JSON, (("report", "report.json", "--out", "r.html"),), 2, bytewise=0.1
    ),
    Loader(
        "run", _runs, _JSON, (("run", "recipe.toml", "--out", "run", "--quiet"),), 1, seeds.inputs_of_run,
        _PARTS_OF_A_RUN, 0.1,
    ),
    Loader(
        "blocks", _blocks, _STORE, (seeds.ATTACK,), 2, _beside("net.safetensors", "x.npz"),
        (".safetensors",),
    ),
    Loader(
        "checkpoint", _one("ck", stopped=seeds.checkpoint),
        (stores.with_header, *(changes.with_other_state,) * 3), (seeds.FINETUNE,), 4,
        _beside("graph.safetensors", "x.npz"),
    ),
)  # fmt: skip
LOADERS: Mapping[str, Loader] = {row.name: row for row in _ROWS}
