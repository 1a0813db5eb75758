"""What a torch user types first: a model in; a spiking network, a sparse model, or its parts out."""

import warnings
from collections.abc import Callable, Sequence
from inspect import currentframe
from pathlib import Path
from typing import Any

import torch

from spikemorph.graph import UnsupportedError
from spikemorph.graph.errors import Message

from ..choices.settings import ConvertChoice, TrainingChoice, chosen_of
from ..conversion import conversion_settings
from ..measures.inspection import inspect_failure, inspect_graph
from ..measures.results import Inspection
from ..sources.memory import Keys, model_of, samples_of
from ..sources.models import Model, ranged
from ..sources.sampling import CALIBRATION_SAMPLES
from .pruned import Pruned, prune_samples
from .snn import SNN

Numbers = float | Sequence[float]
Tell = Callable[[Message | str], None]
Range = tuple[float, float]


def to_snn(
    model: Any,
    images: Any,
    *,
    levels: int = 16,
    weight_bits: int = 8,
    neuron: str = "pow2",
    schedule: str = "free",
    coding: str = "analog",
    carry: str = "reset",
    state_levels: int = 2**14,
    calibrator: str = "mse",
    bias_correction: bool = True,
    rate_coded: str | None = None,
    input_range: Range | None = None,
    input_bits: int = 8,
    mean: Numbers | None = None,
    std: Numbers | None = None,
    input_shape: tuple[int, ...] | None = None,
    weights: str | Path | None = None,
    keys: Keys | None = None,
    task: str | None = None,
    seed: int = 0,
) -> SNN:
    """A certified spiking network from a trained model: fold, calibrate, quantise, choose neurons, prove.

    Parameters
    ----------
    model : nn.Module, Graph, Pruned, str or Path
        A name is a ``.onnx``, ``.pt2`` or ``.safetensors`` file, ``zoo:NAME``, or
        ``package.module:factory``. A module is read from a copy, in evaluation mode.
    images : Tensor, array, DataLoader, Dataset, or a name of data
        (sample, *shape) to calibrate on, from training data; 2000 at most are used. Bytes 0..255 span
        the input range, reals are in its units. Labels are not needed.
    levels : int
        Values that an activation can take.
    weight_bits : int
        2 to 8, or 16.
    neuron, schedule, coding, calibrator : str
        By name, as the options of ``convert``.
    carry : str
        What recurrent layers keep between the elements of a sequence: ``reset`` (the states alone) or
        ``delta`` (all, so that only changes are sent).
    state_levels : int
        Values of a state that changes by sums, as LSTM's cell and GRU's state do.
    bias_correction : bool
        Correct mean errors.
    rate_coded : str, optional
        To compare, the classical way, which is not exact: ``layer=99.9``.
    input_range : (float, float), optional
        Of the model's inputs; 0..1, with a warning, where no one declared it.
    input_bits : int
        Bits of the input grid.
    mean, std : float or sequence of float, optional
        A normalisation that is put inside the model, so that it takes raw inputs.
    input_shape, weights
        For a name that is a factory, or an ONNX file of open sizes.
    keys, task
        As `samples_of` takes them.
    seed : int
        Which calibration samples are drawn.

    Raises
    ------
    InputError
        If model or images are none, do not fit, or a name or number is none.
    UnsupportedError
        Naming every node that cannot be taken.
    """
    how = ConvertChoice(
        levels, weight_bits, neuron, schedule, coding, calibrator, input_bits, bias_correction,
        carry, state_levels,
    )  # fmt: skip
    conversion_settings(how)  # what is no setting is refused before anything is read
    shown = samples_of(images, keys=keys, most=CALIBRATION_SAMPLES, task=task)
    found = model_of(_source(model), shown.x.shape[1:], input_shape=input_shape, weights=weights)
    _pass_on(found, _warn)
    found = ranged(found.behind(_several(mean), _several(std)), input_range, _warn)
    plain = mean is None and std is None and str(model).startswith("zoo:")
    return SNN.of(
        found, shown, how, seed, source=str(model) if plain else None, rate_coded=rate_coded
    )


def prune(
    model: Any,
    sparsity: float,
    data: Any = None,
    labels: Any = None,
    *,
    method: str = "magnitude",
    allocation: str | None = None,
    allow_empty: bool = False,
    input_range: Range | None = None,
    mean: Numbers | None = None,
    std: Numbers | None = None,
    input_shape: tuple[int, ...] | None = None,
    weights: str | Path | None = None,
    keys: Keys | None = None,
    task: str | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
    **training: Any,
) -> Pruned:
    """A sparse model from a trained one, fine-tuned under its masks where there is data to learn from.

    Parameters
    ----------
    model
        As `to_snn` takes it.
    sparsity : float
        Share of weights to remove, 0 <= share < 1.
    data, labels
        Labelled samples to train on, in any form that `samples_of` takes; a module without data needs
        `input_shape`.
    method, allocation : str
        By name, as the options of ``prune``.
    allow_empty : bool
        A layer may lose all its weights.
    input_range, mean, std, input_shape, weights, keys, task
        As `to_snn` takes them.
    seed : int
        Of training and of what a method draws.
    device : str or torch.device
        Where it is trained.
    training
        Fields of `TrainingChoice`: epochs, batch, rate, held_out, distil, ...

    Raises
    ------
    InputError
        If model or data are none or do not fit, or a name or number is none.
    """
    numbers = chosen_of(TrainingChoice, training)
    samples = None
    if data is not None:
        samples = samples_of(data, labels, name="data", keys=keys, task=task)
    shape = None if samples is None else samples.x.shape[1:]
    found = model_of(_source(model), shape, input_shape=input_shape, weights=weights)
    _pass_on(found, _warn)
    found = found.behind(_several(mean), _several(std))
    if samples is not None or input_range is not None:
        found = ranged(found, input_range, _warn)
    return prune_samples(
        found, sparsity, samples, numbers, method=method, allocation=allocation,
        seed=seed, allow_empty=allow_empty, device=torch.device(device),
    )  # fmt: skip


def inspect(
    model: Any,
    *,
    input_shape: tuple[int, ...] | None = None,
    weights: str | Path | None = None,
    tell: Tell | None = None,
) -> Inspection:
    """Every node of a model, and what becomes of it; nodes that do not convert say why.

    Parameters
    ----------
    model
        As `to_snn` takes it.
    input_shape : tuple of int, optional
        (batch, *sample shape), for modules and factories, and ONNX files of open sizes.
    weights : str or Path, optional
        For a name that is a factory.
    tell : callable, optional
        Is told what was done to the model while it was read; warns by default.

    Raises
    ------
    InputError
        If it is no model.
    """
    try:
        found = model_of(_source(model), input_shape=input_shape, weights=weights)
    except UnsupportedError as error:
        name = model if isinstance(model, str | Path) else type(model).__name__
        return inspect_failure(str(name), error)
    _pass_on(found, tell or _warn)
    return inspect_graph(found.name, found.graph)


def _source(model: Any) -> Any:
    return model.model if isinstance(model, Pruned) else model


def _several(numbers: Numbers | None) -> Sequence[float] | None:
    return (float(numbers),) if isinstance(numbers, float | int) else numbers


def _pass_on(model: Model, tell: Tell) -> None:
    for remark in model.remarks:
        tell(remark)


def _warn(said: Message | str) -> None:
    """Warn at the line outside the package that called into it."""
    package, frame, depth = __name__.partition(".")[0], currentframe(), 0
    while frame is not None and frame.f_globals["__name__"].partition(".")[0] == package:
        frame, depth = frame.f_back, depth + 1
    warnings.warn(str(said), stacklevel=depth + 1)
