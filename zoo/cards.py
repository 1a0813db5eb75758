"""The shipped networks: what is known of each, and its weights."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import Annotated, Any

import torch
from torch import nn

from spikemorph.graph.containers import content_of
from spikemorph.graph.errors import InputError
from spikemorph.graph.fields import Between, filled
from spikemorph.graph.plain import read_plain

from .architectures import ARCHITECTURES
from .fetch import sha256_of
from .reasons import reason


@dataclass(frozen=True)
class ModelCard:
    """What is known of one shipped network; accuracies are percentages (0..100), measured."""

    name: str
    architecture: str  # the name of its factory
    dataset: str
    input_shape: tuple[Annotated[int, Between(1)], ...]  # of one sample
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
        return filled(
            ModelCard, read_plain(_shipped(f"{name}.json"), f"{name}.json"), f"{name}.json"
        )
    except InputError as error:
        raise InputError(f"{name}.json: not a model card ({error}); reinstall") from error


def build_model(name: str) -> nn.Module:
    """A shipped network in evaluation mode, its weights checked against its card."""
    card = load_model_card(name)
    content = _shipped(f"{name}.safetensors")
    if sha256_of(content) != card.sha256:
        raise InputError(f"{name}.safetensors: not the file its card describes; reinstall")
    with torch.device("meta"):  # no storage, and no draw from the global generator
        model = _factory(card)()
    try:
        model.load_state_dict(content_of(content, f"{name}.safetensors").tensors(name), assign=True)
    except RuntimeError as error:
        raise InputError(
            f"{name}.safetensors: not weights of {card.architecture} ({reason(error)}); reinstall"
        ) from error
    return model.eval()


def _factory(card: ModelCard) -> Callable[..., nn.Module]:
    if card.architecture not in ARCHITECTURES:
        raise InputError(
            f"{card.name}.json: architecture: no {card.architecture!r} in the zoo; reinstall"
        )
    return ARCHITECTURES[card.architecture]


def _shipped(file: str) -> bytes:
    try:
        return (files("spikemorph.zoo.models") / file).read_bytes()
    except OSError as error:
        raise InputError(f"{file}: not in the installation ({reason(error)}); reinstall") from error
