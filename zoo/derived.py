"""Shipped networks that recipes made of others: float graphs and spiking networks, each with its card."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from spikemorph.graph.errors import InputError
from spikemorph.graph.fields import Between, filled
from spikemorph.graph.plain import read_plain

from .fetch import sha256_of
from .reasons import reason

FLOAT, SPIKING, TIMED = "float graph", "spiking network", "trained through time"


MadeKind = Literal["float graph", "spiking network", "trained through time"]


@dataclass(frozen=True)
class MadeCard:
    """What is known of one made network; accuracies and sparsity are percentages, measured.

    `robust` is the worst case over all attacks of the recipe, by eps as text, on `robust_samples`
    test samples; `certified` what is proved (``certify --eps``), on `certified_samples`.
    """

    name: str
    kind: MadeKind
    dataset: str
    input_shape: tuple[Annotated[int, Between(1)], ...]  # of one sample
    input_range: tuple[float, float]
    command: str  # makes it again
    made_as: str  # the network of that run
    sparsity: float
    nonzero: int  # weights
    accuracy: float  # of the test samples
    robust: Mapping[str, float]
    robust_samples: int
    licence: str
    data_licence: str
    sha256: str  # of the file
    versions: Mapping[str, str]
    certified: Mapping[str, float] = field(default_factory=dict)
    certified_samples: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The card as plain values, as its file holds it."""
        return asdict(self)


def made_names() -> tuple[str, ...]:
    """The names of all made networks, in order."""
    cards = (path.name for path in _folder().iterdir() if path.name.endswith(".made.json"))
    return tuple(sorted(name.removesuffix(".made.json") for name in cards))


def made_card(name: str) -> MadeCard:
    """The card of one made network.

    Raises
    ------
    InputError
        If there is none of that name, or its card is damaged.
    """
    if name not in made_names():
        raise InputError(f"no network {name!r} in the zoo; see spikemorph zoo list")
    try:
        content = (_folder() / f"{name}.made.json").read_bytes()
        return filled(MadeCard, read_plain(content, f"{name}.made.json"), f"{name}.made.json")
    except OSError as error:
        raise InputError(f"{name}.made.json: {reason(error)}; reinstall") from error
    except InputError as error:
        raise InputError(f"{name}.made.json: not a card ({error}); reinstall") from error


def made_file(name: str) -> Path:
    """Where the file of one made network lies, checked against its card.

    Raises
    ------
    InputError
        If there is none of that name, or the file is not the one that the card describes.
    """
    card = made_card(name)
    path = Path(str(_folder() / f"{name}.safetensors"))
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path.name}: not in the installation ({reason(error)})") from error
    if sha256_of(content) != card.sha256:
        raise InputError(f"{path.name}: not the file its card describes; reinstall")
    return path


def _folder() -> Any:
    return files("spikemorph.zoo.models")
