"""Data sets, architectures and shipped networks, by name."""

from .cards import ModelCard, build_model, load_model_card, model_catalogue
from .data_card import DataSet
from .datasets import data_catalogue, fetch_data, load_data
from .fetched import fetch_network
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
