"""Read trained networks, bring them to canonical form, make them spiking, certify them."""

from .canonical import canonical
from .certificate import Certificate, certify, load_certified
from .readers.read_onnx import read_onnx
from .readers.read_torch import read_pt2, read_torch
from .to_spiking import to_spiking

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
