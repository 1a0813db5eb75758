"""The shipped networks: what is known of each, and its weights."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import nn

from spikemorph.graph.errors import InputError

from .architectures import ARCHITECTURES
from .fetch import sha256_of
from .reasons import reason


@dataclass(frozen=True)
class ModelCard:
    """What is known of one shipped network; accuracies are percentages (0..100), measured."""

    name: str
    architecture: str  # the name of its factory
    dataset: str
    input_shape: tuple[int, ...]  # of one sample
    input_range: tuple[float, float]
    classes: tuple[str, ...]
    command: str  # trains it again
    settings: Mapping[str, Any]
    seed: int
    epochs: int
    accuracy: Mapping[str, float]  # of the samples learnt from, held out, and test
    seconds: float  # of training
    parameters: int
    licence: str
    data_licence: str
    sha256: str  # of the weights' file
    versions: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """The card as plain values, as its file holds it."""
        return asdict(self)


def model_catalogue() -> tuple[ModelCard, ...]:
    """The card of every shipped network."""
    return tuple(load_model_card(name) for name in ARCHITECTURES)


def load_model_card(name: str) -> ModelCard:
    """The card of one shipped network."""
    if name not in ARCHITECTURES:
        raise InputError(f"no network {name!r} in the zoo; known: {', '.join(ARCHITECTURES)}")
    try:
        values = json.loads(_shipped(f"{name}.json"))
        for field in ("input_shape", "input_range", "classes"):
            values[field] = tuple(values[field])
        return ModelCard(**values)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{name}.json: not a model card ({reason(error)}); reinstall") from error


def build_model(name: str) -> nn.Module:
    """A shipped network in evaluation mode, its weights checked against its card."""
    card = load_model_card(name)
    content = _shipped(f"{name}.safetensors")
    if sha256_of(content) != card.sha256:
        raise InputError(f"{name}.safetensors: not the file its card describes; reinstall")
    with torch.device("meta"):  # no storage, and no draw from the global generator
        model = ARCHITECTURES[card.architecture]()
    try:
        model.load_state_dict(load(content), assign=True)
    except (RuntimeError, SafetensorError) as error:
        raise InputError(
            f"{name}.safetensors: not weights of {card.architecture} ({reason(error)}); reinstall"
        ) from error
    return model.eval()


def _shipped(file: str) -> bytes:
    try:
        return (files("spikemorph.zoo.models") / file).read_bytes()
    except OSError as error:
        raise InputError(f"{file}: not in the installation ({reason(error)}); reinstall") from error
