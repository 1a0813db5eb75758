"""Data sets, architectures and shipped networks, by name."""

from .cards import ModelCard, build_model, load_model_card, model_catalogue
from .datasets import data_catalogue, fetch_data, fetch_network, load_data
from .entry import DataSet
from .samples import Samples

__all__ = [
    "DataSet",
    "ModelCard",
    "Samples",
    "build_model",
    "data_catalogue",
    "fetch_data",
    "fetch_network",
    "load_data",
    "load_model_card",
    "model_catalogue",
]
