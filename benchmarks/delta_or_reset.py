"""One recurrent network by both schedules, beside its quantised twin that recomputes, or skips.

    python benchmarks/delta_or_reset.py NETWORK.safetensors smartwatch:test:50
    python benchmarks/delta_or_reset.py NETWORK.safetensors smartwatch:test:50 --slower 8

NETWORK is what ``convert`` saved of a recurrent model. ``--slower K`` reads every K-th part of each
sequence K times slower, with values between neighbours on a line: the same stream, sampled more often.
Counts are exact, means of one element of each recurrent layer. Prints one line of JSON for each schedule.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from spikemorph.convert import certify, load_certified
from spikemorph.energy import EnergyResult, estimate_energy
from spikemorph.energy.results import HEADLINE, UNCHANGED
from spikemorph.layers.integer_pass import IntegerPass
from spikemorph.sources.sampling import fitting
from spikemorph.spiking.engines import engine_for
from spikemorph.spiking.network import Carry
from spikemorph.zoo import load_data


def slower(x: Tensor, times: int) -> Tensor:
    """(sample, element, feature): the first part of each sequence, stretched to its whole length."""
    if times == 1:
        return x
    kept = x[:, : max(2, x.shape[1] // times + 1)].movedim(1, 2)
    return torch.nn.functional.interpolate(
        kept, size=x.shape[1], mode="linear", align_corners=True
    ).movedim(2, 1)


def told(cost: EnergyResult) -> dict[str, object]:
    """Operations of an element, and the bands against both of the twin's ways to skip."""
    counts = cost.counts
    layers = {}
    for layer in counts.along:
        often = counts.samples * len(layer.synops)
        layers[layer.node] = {
            "spiking": round((sum(layer.synops) + sum(layer.analog_macs)) / often, 1),
            "twin": layer.mac_masked,
            "twin, skips zeros": round(sum(layer.mac_effective) / often, 1),
            "twin, skips unchanged": round(sum(layer.mac_changed) / often, 1),
        }
    bands = {
        band.against: f"{band.min:.2f} to {band.max:.2f}, {band.verdict}"
        for band in cost.bands
        if band.against in (HEADLINE, UNCHANGED)
    }
    return {"operations an element": layers, "energy over the twin's": bands}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", type=Path)
    parser.add_argument("data")
    parser.add_argument("--slower", type=int, default=1)
    given = parser.parse_args()
    saved, _, _ = load_certified(given.network)
    samples = load_data(given.data)
    x = slower(fitting(samples, saved.graph), given.slower)
    wanted = IntegerPass(saved.graph).outputs(x)
    spikes = dict[Carry, int]()
    for carry in Carry:
        network = replace(saved, carry=carry)
        steps = certify(network).steps_required
        assert steps is not None
        trace = engine_for(network, most_steps=steps).run(x, steps)
        outputs = trace.real_outputs(network)[-1]
        cost = estimate_energy(network, x, steps)
        spikes[carry] = cost.counts.spikes
        said = {"network": given.network.name, "data": given.data, "n": len(x)}
        said |= {"slower": given.slower, "carry": carry.name.lower(), "inner steps": steps}
        said |= {"outputs that differ": int((outputs != wanted).sum())}
        said |= {"spikes": cost.counts.spikes}
        said |= {"fewer than reset, %": round(100 - 100 * spikes[carry] / spikes[Carry.RESET], 1)}
        print(json.dumps(said | told(cost)), flush=True)


if __name__ == "__main__":
    main()
