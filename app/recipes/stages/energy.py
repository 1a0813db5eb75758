"""Count what a spiking network does, and price it."""

from typing import Any

from spikemorph.convert import load_certified
from spikemorph.convert.certificate import steps_of
from spikemorph.energy import estimate_energy
from spikemorph.graph import InputError
from spikemorph.spiking.engines import engine_for

from ...measures.activity import activity
from ...measures.comparison import dense_network
from ..origins import Hashes
from .bench import Bench, stamps_of
from .stage import Stage


def energy(bench: Bench) -> None:
    """``energy.json`` and ``activity.json``: counts, prices, memory; spikes of every layer."""
    network, certificate, _ = load_certified(bench.folder / "network.safetensors")
    path = None if bench.dense is None else bench.dense / "network.safetensors"
    dense, own_steps = dense_network(path)
    steps = steps_of(certificate)
    x, _ = bench.test_values(bench.recipe.measure.energy)
    if not len(x):
        raise InputError(f"{bench.test.name}: no samples to count energy on; give at least one")
    result = estimate_energy(
        network, x, steps, dense=dense, dense_steps=own_steps, model=bench.network.name,
        data=bench.test.name,
    )  # fmt: skip
    bench.write("energy", result.to_dict())
    engine = engine_for(network, most_steps=steps)
    bench.write("activity", activity(network, engine, x, steps).to_dict())


def _depends(bench: Bench, hashes: Hashes) -> Any:
    dense = None if bench.dense is None else stamps_of(bench.dense)["convert"]
    return [hashes["test data"], bench.recipe.measure.energy, dense]


ENERGY = Stage("energy", energy, ("energy.json", "activity.json"), "convert", _depends)
