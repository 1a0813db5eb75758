"""The sections of the report: a table, and nothing but a table.

To add one: a file in ``page/`` with a ``SHAPE`` and a function from the run's parts to blocks, and a
row here. A section whose part is not in a run says so, and how to make it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from .blocks import Block
from .page import (
    accuracy,
    certificate,
    comparison,
    in_time,
    model,
    reproduce,
    sparsity,
    spikes,
)
from .page.costs import energy, memory
from .page.robustness import certified
from .page.robustness import section as robustness
from .shapes import Plain, Shape

CONVERTED, TIMED = "converted", "through time"


@dataclass(frozen=True)
class Section:
    """One section.

    Parameters
    ----------
    key, title : str
        Its address in the page; its heading.
    part : str
        The part of a run that it needs: ``part.json`` in a run folder.
    shape : mapping
        What that part must look like.
    blocks : callable
        From all parts of a run, its own among them, to what is shown.
    made_by : str
        The command that makes the part.
    beside : mapping of str to shape
        Parts that it also shows where a run has them.
    road : str
        CONVERTED or TIMED, where it says nothing of networks of the other kind.
    """

    key: str
    title: str
    part: str
    shape: Shape
    blocks: Callable[[Mapping[str, Plain]], list[Block]]
    made_by: str
    beside: Mapping[str, Shape] = field(default_factory=dict)
    road: str = ""


def sections_of(parts: Mapping[str, Plain], sections: Sequence[Section]) -> tuple[Section, ...]:
    """Those that have something to say of a run: one trained through time has no certificate."""
    road = TIMED if "timing" in parts else CONVERTED
    return tuple(section for section in sections if section.road in ("", road))


_INSPECT = "spikemorph inspect MODEL --json RUN/model.json"
_ENERGY = "spikemorph energy NETWORK --data DATA --json RUN/energy.json"
_RUN = "spikemorph run RECIPE.toml"
SECTIONS = (
    Section("model", "The model", "model", model.SHAPE, model.model, _INSPECT),
    Section("conversion", "Conversion", "model", model.SHAPE, model.conversion, _INSPECT),
    Section(
        "certificate", "Certificate", "certificate", certificate.SHAPE, certificate.certificate,
        "spikemorph certify NETWORK --json RUN/certificate.json", road=CONVERTED,
    ),
    Section(
        "accuracy", "Accuracy over time", "evaluation", accuracy.SHAPE, accuracy.accuracy,
        "spikemorph evaluate NETWORK --data DATA --json RUN/evaluation.json", road=CONVERTED,
    ),
    Section(
        "in-time", "Accuracy and operations in time", "timing", in_time.SHAPE, in_time.in_time,
        "spikemorph evaluate NETWORK --data DATA --json RUN/timing.json", road=TIMED,
    ),
    Section(
        "spikes", "Spikes per layer", "activity", spikes.SHAPE, spikes.spikes, _RUN, road=CONVERTED
    ),
    Section(
        "raster", "Raster of one sample", "activity", spikes.SHAPE, spikes.rasters, _RUN,
        road=CONVERTED,
    ),
    Section("energy", "Energy", "energy", energy.SHAPE, energy.energy, _ENERGY, road=CONVERTED),
    Section("memory", "Memory", "energy", energy.SHAPE, memory.memory, _ENERGY, road=CONVERTED),
    Section("sparsity", "Sparsity per layer", "sparsity", sparsity.SHAPE, sparsity.sparsity, _RUN),
    Section(
        "robustness", "Robustness", "robustness", robustness.SHAPE, robustness.robustness,
        "spikemorph attack NETWORK --data DATA --eps 8/255 --json RUN/robustness.json",
        beside={robustness.TWIN: robustness.SHAPE},
    ),
    Section(
        "certified", "Certified robustness", "certified", certified.SHAPE, certified.certified,
        "spikemorph certify NETWORK --data DATA --eps 1/255 --json RUN/certified.json",
        beside={"robustness": robustness.SHAPE}, road=CONVERTED,
    ),
    Section(
        "forms", "One network, every form", "energy", energy.SHAPE, comparison.forms, _ENERGY,
        road=CONVERTED,
    ),
    Section(
        "comparison", "Several networks", "comparison", comparison.SHAPE, comparison.comparison,
        "spikemorph compare NETWORK NETWORK --data DATA --json RUN/comparison.json",
    ),
    Section("reproduce", "How to reproduce it", "reproduce", reproduce.SHAPE, reproduce.reproduce, _RUN),
)  # fmt: skip
