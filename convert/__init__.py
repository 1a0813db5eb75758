"""Read trained networks, bring them to canonical form, make them spiking, certify them."""

from .canonical import canonical
from .certificate import Certificate, certify, load_certified
from .read_onnx import read_onnx
from .read_torch import read_pt2, read_torch
from .spiking import to_spiking

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
