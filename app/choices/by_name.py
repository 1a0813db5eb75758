"""Names that users give neurons, calibrators, codings and engines, and the values they stand for."""

import math
from collections.abc import Callable, Mapping
from typing import Literal, TypeVar

import torch

from spikemorph.energy import PRICE_LISTS as _PRICES
from spikemorph.energy import PriceList
from spikemorph.graph import InputError
from spikemorph.graph.errors import Repair, Setting
from spikemorph.prune import Allocation, ErdosRenyi, Lamp, Ranked, Uniform
from spikemorph.prune.methods import methods
from spikemorph.quant import MSE, Max, Percentile, RateCoding
from spikemorph.quant.calibrators import Calibrator
from spikemorph.robust.threat import Norm
from spikemorph.spiking import (
    Coding,
    Neuron,
    Schedule,
    SpikingNetwork,
)
from spikemorph.spiking.coding import AnalogFirstStep, BitPlane, Repeated, Thermometer
from spikemorph.spiking.engine import Runs
from spikemorph.spiking.engines import engine_for, engines
from spikemorph.spiking.exits import ExitRule
from spikemorph.spiking.network import Carry
from spikemorph.spiking.neurons import BIF, IF, SNM, STBIF, burst, few_spikes, group, pow2
from spikemorph.train.averaging import Averaging, Ema, Swa

Choice = TypeVar("Choice")
NEURONS: Mapping[str, Callable[[], Neuron]] = {
    "pow2": pow2,
    "st-bif": STBIF,
    "if": IF,
    "bif": BIF,
    "snm": SNM,
    "burst": burst,
    "group": group,
    "few-spikes": few_spikes,
}
CODINGS: Mapping[str, Callable[[], Coding]] = {
    "analog": AnalogFirstStep,
    "repeated": Repeated,
    "bit-plane": BitPlane,
    "thermometer": Thermometer,
}
PRICE_LISTS: Mapping[str, PriceList] = {price.name: price for price in _PRICES}
METHODS = tuple(sorted(methods))
ALLOCATIONS: Mapping[str, Allocation] = {
    "uniform": Uniform(),
    "erk": ErdosRenyi(),
    "lamp": Lamp(),
    "global": Ranked(),
}
PRECISIONS: Mapping[str, Literal["32-true", "bf16-mixed"]] = {
    "32-true": "32-true",
    "bf16-mixed": "bf16-mixed",
}
SHARE, OWN = "range", "input"  # what eps counts in
BOUNDS = ("ibp", "sabr")  # objectives that prove
OBJECTIVES = ("clean", "pgd", "trades", "mart", "fast", "rfgsm", *BOUNDS)
AVERAGES: Mapping[str, Averaging | None] = {"none": None, "swa": Swa(), "ema": Ema()}
SCHEDULES = {"free": Schedule.FREE, "wait": Schedule.WAIT}
CARRIES = {"reset": Carry.RESET, "delta": Carry.DELTA}


def method(name: str) -> str:
    """The pruning method of that name."""
    return _choice({known: known for known in METHODS}, name, "method")


def allocation(name: str | None) -> Allocation | None:
    """The allocation of that name; None leaves it to the method."""
    return None if name is None else _choice(ALLOCATIONS, name, "allocation")


def norm(name: str) -> Norm:
    """The norm of a threat."""
    table: Mapping[str, Norm] = {"linf": "linf", "l2": "l2"}
    return _choice(table, name, "norm")


def price_lists(text: str) -> tuple[PriceList, ...]:
    """``all``, or names with commas between them; one of the band's among them.

    Raises
    ------
    InputError
        If a name is unknown, or the verdict would have nothing to be made of.
    """
    if text == "all":
        return tuple(PRICE_LISTS.values())
    found = {name: _choice(PRICE_LISTS, name, "models") for name in text.split(",")}
    if not any(price.in_band for price in found.values()):
        band = ", ".join(name for name, price in PRICE_LISTS.items() if price.in_band)
        raise InputError(
            f"the verdict needs one of the band's too: {band}", where=Setting("models", text)
        )
    return tuple(found.values())


def precision(name: str) -> Literal["32-true", "bf16-mixed"]:
    """The arithmetic of training."""
    return _choice(PRECISIONS, name, "precision")


def objective(name: str) -> str:
    """The training objective of that name."""
    return _choice({known: known for known in OBJECTIVES}, name, "objective")


def average(name: str) -> Averaging | None:
    """The average of weights of that name; None is for none."""
    return _choice(AVERAGES, name, "average")


def eps_units(name: str) -> str:
    """What eps counts in: shares of the range of inputs, or the inputs' own units."""
    return _choice({known: known for known in (SHARE, OWN)}, name, "eps_units")


def eps_of(text: str | float, kind: Norm = "linf", width: float = 1.0) -> float:
    """How far an attacker may change a pixel (an image, for "l2"), from ``8/255`` or ``0.03``.

    It is returned as a share of the range of inputs, which is `width` in the units of the text.

    Raises
    ------
    InputError
        If it is no number, negative, or, for a pixel, the whole range of inputs.
    """
    top, slash, bottom = str(text).partition("/")
    below = _number(bottom, "eps") if slash else 1.0
    if below <= 0:
        raise InputError("divide by a number above 0: 8/255", where=Setting("eps", text))
    found = _number(top, "eps") / below
    if not 0 <= found < math.inf:
        raise InputError(
            "give a finite number of 0 or more, such as 8/255", where=Setting("eps", text)
        )
    if found >= width and kind == "linf":
        inputs = "in 0..1" if width == 1 else f"{width:g} wide"
        raise InputError(
            f"inputs are {inputs}, and this is all of it",
            Repair("eps", f"{text}/255", f"did you mean {text}/255? Give it so"),
            where=Setting("eps", text),
        )
    return found / width


def neuron(name: str) -> Neuron:
    """The neuron of that name."""
    return _choice(NEURONS, name, "neuron")()


def coding(name: str) -> Coding:
    """The input coding of that name."""
    return _choice(CODINGS, name, "coding")()


def schedule(name: str) -> Schedule:
    """The schedule of that name."""
    return _choice(SCHEDULES, name, "schedule")


def carry(name: str) -> Carry:
    """What recurrent layers keep between elements, by name."""
    if name == "replay":  # what others do
        raise InputError(
            "a state's own spikes sent on again: then no number of steps is enough for sequences of "
            "any length; choose reset or delta",
            where=Setting("carry", name),
        )
    return _choice(CARRIES, name, "carry")


def calibrator(text: str) -> Calibrator:
    """``mse``, ``max``, ``percentile`` or ``percentile=99.9``."""
    name, _, number = text.partition("=")
    if name == "percentile":
        return Percentile(_number(number or "99.9", "calibrator") / 100)
    table: Mapping[str, Calibrator] = {"mse": MSE(), "max": Max()}
    if text not in table:
        raise InputError(
            "choose one of mse, max, percentile=99.9", where=Setting("calibrator", text)
        )
    return table[text]


def rate_coding(text: str) -> RateCoding:
    """``layer=100`` (the largest activation), ``layer=99.9`` or ``channel=99.9``."""
    kind, _, number = text.partition("=")
    if kind not in ("layer", "channel"):
        raise InputError(
            "give layer=100, layer=99.9 or channel=99.9", where=Setting("rate_coded", text)
        )
    return RateCoding(_number(number, "rate_coded") / 100, per_channel=kind == "channel")


def exit_rule(text: str) -> ExitRule | None:
    """``none``, ``silent``, ``confidence=0.9`` or ``conformal=0.01``."""
    kind, _, number = text.partition("=")
    if text == "none":
        return None
    if text == "silent":
        return ExitRule("silent")
    if kind not in ("confidence", "conformal") or not 0 < _number(number, "exit_rule") < 1:
        raise InputError(
            "give none, silent, confidence=0.9 or conformal=0.01", where=Setting("exit_rule", text)
        )
    return ExitRule(kind, float(number))


def engine(name: str, network: SpikingNetwork, where: torch.device, steps: int) -> Runs:
    """The engine of that name, ready for a network."""
    if name not in ("auto", *engines):
        raise InputError(f"choose one of auto, {', '.join(engines)}", where=Setting("engine", name))
    return engine_for(network, where, steps, name)


def _choice(table: Mapping[str, Choice], name: str, setting: str) -> Choice:
    if name not in table:
        raise InputError(f"choose one of {', '.join(table)}", where=Setting(setting, name))
    return table[name]


def _number(text: str, setting: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise InputError(f"{text!r} is no number", where=Setting(setting)) from error
