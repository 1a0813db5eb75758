"""A certified spiking network that is run, stepped through, and saved."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from spikemorph.convert import Certificate
from spikemorph.convert.certificate import steps_of
from spikemorph.graph import InputError
from spikemorph.graph.batches import batch_size
from spikemorph.graph.errors import Setting
from spikemorph.spiking import SpikingNetwork, save_network
from spikemorph.spiking.engines import engine_for
from spikemorph.spiking.module import Moment, SpikingLayers
from spikemorph.spiking.trace import require_steps

from ..sources.memory import samples_of
from ..sources.sampling import values


class Running:
    """A certified spiking network.

    Parameters
    ----------
    network, certificate
        What runs, and what is proved of it.
    notes : mapping, optional
        What is saved beside it: the ``model`` that it was made from, its ``source`` in the zoo, the
        samples of its ``calibration``.
    file : Path, optional
        Where it was loaded from.
    """

    def __init__(
        self,
        network: SpikingNetwork,
        certificate: Certificate,
        notes: Mapping[str, Any] = MappingProxyType({}),
        file: Path | None = None,
    ) -> None:
        self.network, self.certificate, self.notes, self.file = network, certificate, notes, file

    def __repr__(self) -> str:
        kinds = ", ".join(dict.fromkeys(neuron.name for _, neuron in self.network.neurons))
        count = len(self.network.neurons)
        layers = f"{count} neuron layer{'' if count == 1 else 's'}"
        return f"{layers} ({kinds}), {self.certificate!r}"

    @property
    def name(self) -> str:
        """What the model is called that it was made from."""
        unknown = "network" if self.file is None else self.file.stem
        return str(self.notes.get("model", unknown))

    @property
    def settled(self) -> int:
        """How many steps it is run for: as many as its certificate asks for."""
        return steps_of(self.certificate)

    def __call__(self, x: Tensor, steps: int | None = None) -> Tensor:
        """What the outputs say after so many steps; by default when all has settled.

        Parameters
        ----------
        x : Tensor
            (sample, *shape): bytes 0..255 span the network's input range, reals are in its units.

        Returns
        -------
        Tensor
            (sample, *output shape) float32, on the device of `x`.

        Raises
        ------
        InputError
            If samples do not fit the network, or there is no step.
        """
        inputs, wanted = self._inputs(x), self.settled if steps is None else steps
        require_steps(wanted)
        engine = engine_for(self.network, most_steps=wanted)
        batches = inputs.split(batch_size(self.network.graph, min(wanted, engine.stride)))
        real = [engine.run(batch, wanted).real_outputs(self.network)[-1] for batch in batches]
        return torch.cat(real).to(getattr(x, "device", "cpu"), torch.float32)

    def steps(self, x: Tensor, most: int | None = None) -> Iterator[Moment]:
        """Every step of a run: spikes, membranes and logits; until all has settled, or `most` steps.

        Raises
        ------
        InputError
            As a call does.
        """
        inputs, module = self._inputs(x), self.module()
        wanted = self.settled if most is None else most
        require_steps(wanted)
        return _run(module, inputs, wanted)

    def module(self) -> SpikingLayers:
        """A new torch module with a child a layer, to hook, move to a device, and step by hand."""
        return SpikingLayers(self.network, self.settled)

    def save(self, path: str | Path) -> None:
        """Save network and certificate as one ``.safetensors`` file; `load` reads it.

        Raises
        ------
        InputError
            If it cannot be written, or is called otherwise.
        """
        if Path(path).suffix != ".safetensors":
            raise InputError("networks are saved as .safetensors", where=Setting("path", str(path)))
        notes = {"certificate": self.certificate.to_dict(), **self.notes}
        save_network(Path(path), self.network, notes)

    def _inputs(self, x: Any) -> Tensor:
        return values(samples_of(x, name="x"), self.network.entry)


def _run(module: SpikingLayers, x: Tensor, steps: int) -> Iterator[Moment]:
    state = module.start()
    for _ in range(steps):
        state, step = module.step(state, x)
        yield step
