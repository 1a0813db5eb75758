"""A user's own torch module: made by a factory, with weights of a file."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from spikemorph.convert.readers.state_dicts import fitted, read_state_dict
from spikemorph.graph import InputError
from spikemorph.graph.containers import read_content

_TRAINS = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)  # differ in training


def _called(source: str, place: str, attribute: str) -> Any:
    """What a user's factory makes, with the same first weights every time."""
    try:
        factory = getattr(importlib.import_module(place), attribute)
    except (Exception, SystemExit) as error:  # a user's module does anything
        raise InputError(
            f"{source}: cannot be imported ({type(error).__name__}: {error}); modules are looked for in "
            "the current folder, then in PYTHONPATH"
        ) from error
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        try:
            return factory() if callable(factory) else factory
        except (Exception, SystemExit) as error:
            raise InputError(
                f"{source}: the factory fails ({type(error).__name__}: {error}); it is called "
                "without arguments"
            ) from error


@contextmanager
def _beside() -> Iterator[None]:
    """With modules of the current folder, as Python itself has them when it runs a file there."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        with suppress(ValueError):  # the module may change the path, too
            sys.path.remove(here)


def remarks_on(source: str, model: nn.Module) -> tuple[str, ...]:
    """That a model came in training mode, where that would change what it computes."""
    if not any(part.training and isinstance(part, _TRAINS) for part in model.modules()):
        return ()
    return (f"{source}: in training mode; read in evaluation mode",)


def load_weights(model: nn.Module, weights: Path, source: str) -> None:
    """Put the weights of a file into a module; `source` is what its user calls it.

    Raises
    ------
    InputError
        If the file is no state dict, or does not fit.
    """
    state = read_weights(weights)
    try:
        model.load_state_dict(fitted(state, model.state_dict()))
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:3]]
        raise InputError(f"{weights}: does not fit {source}: {' '.join(lines)}") from error


def read_weights(path: Path) -> dict[str, Tensor]:
    """A state dict from safetensors, or from a torch file that holds nothing but tensors.

    Raises
    ------
    InputError
        If the file is missing, damaged, or would run code when loaded.
    """
    if path.suffix != ".safetensors":
        return read_state_dict(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    return read_content(path).tensors(path)


def module_of(source: str, weights: Path | None) -> nn.Module:
    """The module that ``package.module:factory`` makes, with the weights of a file where one is given.

    Raises
    ------
    InputError
        If it cannot be imported or made, is no torch module, or the weights do not fit.
    """
    place, _, attribute = source.partition(":")
    with _beside():
        model = _called(source, place, attribute)
    if not isinstance(model, nn.Module):
        raise InputError(f"{source}: gave a {type(model).__name__}, not a torch nn.Module")
    if weights is not None:
        load_weights(model, weights, source)
    return model
