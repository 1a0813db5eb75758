"""Fashion-MNIST: pieces of clothing, and the sample of them that comes with the installation."""

from functools import partial
from importlib.resources import files
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load

from spikemorph.graph.errors import InputError

from .data_card import Arrays, DataSet, Split
from .downloads import debian, torchvision
from .fetch import Download
from .idx import read_idx_pair
from .reasons import reason

SAMPLE_FILE = "fashion_mnist_sample.safetensors"  # the first test images, in their order

_TRAIN = ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz")
_TEST = ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz")
_FILES = {
    _TRAIN[0]: "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
    _TRAIN[1]: "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
    _TEST[0]: "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
    _TEST[1]: "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
}


def _read_sample(folder: Path) -> Arrays:
    """The first test images, as they were shipped."""
    try:
        tensors = load((files("spikemorph.zoo.models") / SAMPLE_FILE).read_bytes())
        return Arrays(tensors["x"], tensors["y"].to(torch.int64))
    except (OSError, SafetensorError, KeyError) as error:
        raise InputError(f"{SAMPLE_FILE}: cannot be read ({reason(error)}); reinstall") from error


FASHION_MNIST = DataSet(
    name="fashion-mnist",
    summary="pieces of clothing, 28x28 grey",
    shape=(1, 28, 28),
    classes=(
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
    licence="MIT, (c) 2017 Zalando SE",
    citation="H. Xiao, K. Rasul, R. Vollgraf: Fashion-MNIST, arXiv:1708.07747, 2017",
    splits={
        "train": Split(60000, partial(read_idx_pair, *_TRAIN)),
        "test": Split(10000, partial(read_idx_pair, *_TEST), tests=True),
        "sample": Split(500, _read_sample, shipped=True, tests=True),
    },
    download=Download(
        name="fashion-mnist",
        files=_FILES,
        routes=(
            debian(
                "dataset-fashion-mnist",
                "0.0~git20200523.55506a9-1",
                "39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0",
                {file: f"./usr/share/datasets/fashion-mnist/{file}" for file in _FILES},
            ),
            torchvision("FashionMNIST", {file: f"FashionMNIST/raw/{file}" for file in _FILES}),
        ),
    ),
)
