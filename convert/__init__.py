"""Read trained networks, bring them to canonical form, make them spiking, certify them."""

from importlib import import_module
from typing import TYPE_CHECKING

from .canonical import canonical
from .certificate import Certificate, certify, load_certified
from .readers.read_onnx import read_onnx
from .readers.read_torch import read_torch
from .to_spiking import to_spiking

if TYPE_CHECKING:
    from .readers.pt2_files import read_pt2

__all__ = [
    "Certificate",
    "canonical",
    "certify",
    "load_certified",
    "read_onnx",
    "read_pt2",
    "read_torch",
    "to_spiking",
]


if not TYPE_CHECKING:  # so that types are known of these names alone

    def __getattr__(name: str) -> object:
        if name != "read_pt2":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return import_module(f"{__name__}.readers.pt2_files").read_pt2
