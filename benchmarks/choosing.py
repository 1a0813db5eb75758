"""What each choice of a conversion costs and gives, one at a time around the defaults, as tables.

Scales are calibrated on training images; "train %" is measured on other training images, for a choice
to be made by; test images are looked at once, at the end of a row, and choose nothing.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor

from spikemorph import load_graph, to_snn
from spikemorph.choices import by_name
from spikemorph.graph import Graph, run
from spikemorph.layers.integer_pass import IntegerPass
from spikemorph.sources.sampling import labels_of
from spikemorph.zoo import load_data

SPIKES, SYNOPS = 200, 20  # test images that the spikes are run on, and operations counted on
LONG = 64  # steps of a network that no certificate says the end of
SUBJECTS = {  # network: data, range of inputs, training images to calibrate on, images to measure on
    "digits_cnn": ("digits", (0.0, 1.0), 1000, 360),
    "onnx-mnist": ("mnist", (0.0, 255.0), 1000, 2000),
    "fashion_resnet": ("fashion-mnist", (0.0, 1.0), 1000, 1000),
}
CALIBRATORS = ("mse", "max", "percentile=99.9", "percentile=99")


@dataclass(frozen=True)
class Choice:
    """One row: what differs from the defaults of `to_snn`, in the topic's table."""

    topic: str
    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def integers_only(self) -> bool:
        """Whether only the integer network is another one, so that its accuracy is the row."""
        return self.topic in ("levels", "weight bits", "calibrator", "bias correction")


def choices() -> Iterator[Choice]:
    """All rows, topic by topic."""
    for levels in (2, 4, 8, 16, 32, 64, 256):
        yield Choice("levels", str(levels), {"levels": levels})
    for bits in (2, 3, 4, 5, 6, 8, 16):
        yield Choice("weight bits", str(bits), {"weight_bits": bits})
    for levels in (4, 16):
        for name in CALIBRATORS:
            how = {"levels": levels, "calibrator": name}
            yield Choice("calibrator", f"{name}, {levels} levels", how)
    for bits in (4, 8):
        for on in (True, False):
            how = {"weight_bits": bits, "bias_correction": on}
            yield Choice("bias correction", f"{'on' if on else 'off'}, {bits} bits", how)
    for name in by_name.NEURONS:
        yield Choice("neuron and schedule", f"{name}, free", {"neuron": name})
    for name in ("pow2", "st-bif", "if", "few-spikes"):
        how = {"neuron": name, "schedule": "wait"}
        yield Choice("neuron and schedule", f"{name}, wait", how)
    for name in by_name.CODINGS:
        yield Choice("coding", name, {"coding": name})


@dataclass(frozen=True)
class Subject:
    """A trained network with images to calibrate, to choose and to test on."""

    graph: Graph
    ends: tuple[float, float]
    shown: Tensor
    chosen_on: tuple[Tensor, Tensor]
    tested_on: tuple[Tensor, Tensor]


def subject(name: str) -> Subject:
    """The network of that name, and its images; training images in an order drawn once."""
    data, (low, high), calibrated, measured = SUBJECTS[name]
    train, test = load_data(f"{data}:train"), load_data(f"{data}:test:{measured}")
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
    order = order[: calibrated + measured]
    width = high - low
    x, y = train.values()[order] * width + low, labels_of(train)[order]
    return Subject(
        load_graph(f"zoo:{name}").graph, (low, high), x[:calibrated],
        (x[calibrated:], y[calibrated:]), (test.values() * width + low, labels_of(test)),
    )  # fmt: skip


def share(outputs: Tensor, y: Tensor) -> float:
    """The share of outputs whose largest is the label's, in %."""
    return 100 * float((outputs.argmax(1) == y).double().mean())


@torch.no_grad()
def measured(on: Subject, choice: Choice) -> dict[str, Any]:
    """One row: accuracy of the integer network, what is proved, and what the spikes do."""
    snn = to_snn(on.graph, on.shown, input_range=on.ends, **choice.options)
    last = snn.certificate.steps_required or LONG
    row: dict[str, Any] = {"level": snn.certificate.level, "steps": snn.certificate.steps_required}
    if choice.integers_only:
        whole, readout = IntegerPass(snn.network.graph), snn.network.readout
        for name, (x, y) in (("train", on.chosen_on), ("test", on.tested_on)):
            row[name] = share(torch.cat([readout.real(whole(part)) for part in x.split(100)]), y)
    x, y = (part[:SPIKES] for part in on.tested_on)
    at = sorted({1, 2, 4, 8, 16, 32, last} & set(range(1, last + 1)))
    found = snn.evaluate(x, y, steps=at)
    row |= {
        "curve": {point.steps: point.accuracy for point in found.curve},
        "agreement": found.curve[-1].agreement,
        "off": found.settled.mismatching_logits,
        "settled": found.settled.steps_mean,
        "latest": found.settled.steps_max,
        "spikes": found.curve[-1].spikes_per_inference,
    }
    if not choice.integers_only:
        counted = snn.energy(x, samples=SYNOPS, steps=last)
        row["synops"] = float(counted.counts.synops) / SYNOPS
    return row


def number(value: float | None, places: int = 2) -> str:
    """A number for a table."""
    return "-" if value is None else f"{value:,.{places}f}"


def integer_cells(row: dict[str, Any]) -> list[str]:
    """What a row about the integer network shows."""
    return [number(row["train"]), number(row["test"]), str(row["steps"]), number(row["settled"]),
            number(row["spikes"], 0)]  # fmt: skip


def spike_cells(row: dict[str, Any]) -> list[str]:
    """What a row about time shows."""
    curve = row["curve"]
    early = [number(curve.get(str(step)), 1) for step in (1, 4, 16)]
    end = number(list(curve.values())[-1], 1)
    proved = "-" if row["level"] is None else f"{row['level']}, {row['steps']}"
    return [proved, *early, end, number(row["agreement"], 1), str(row["off"]),
            number(row["spikes"], 0), number(row["synops"], 0)]  # fmt: skip


def tables(rows: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Markdown: a table a network and topic."""
    heads = {
        True: ["train %", "test %", "steps proved", "settled after, mean", "spikes"],
        False: ["proved", "T=1 %", "T=4 %", "T=16 %", "end %", "agrees %", "logits off",
                "spikes", "synops"],
    }  # fmt: skip
    for topic in dict.fromkeys(choice.topic for choice in choices()):
        for name in SUBJECTS:
            some = [c for c in choices() if c.topic == topic and f"{name} {topic} {c.name}" in rows]
            if some:
                head = [topic, *heads[some[0].integers_only]]
                floats = f"{number(rows[name]['float'])} % (train {number(rows[name]['train'])} %)"
                yield f"\n{name}, float {floats}\n"
                yield f"| {' | '.join(head)} |"
                yield "|---" * len(head) + "|"
                for choice in some:
                    row = rows[f"{name} {topic} {choice.name}"]
                    cells = integer_cells(row) if choice.integers_only else spike_cells(row)
                    yield f"| {' | '.join([choice.name, *cells])} |"


def main(
    json_file: Annotated[Path, typer.Option("--json", help="Rows, kept from run to run.")],
    networks: Annotated[str, typer.Option(help="Which, with commas.")] = ",".join(SUBJECTS),
) -> None:
    """Measure what is missing, and print the tables."""
    rows: dict[str, Any] = json.loads(json_file.read_text()) if json_file.exists() else {}
    for name in networks.split(","):
        missing = [c for c in choices() if f"{name} {c.topic} {c.name}" not in rows]
        if not missing:
            continue
        on = subject(name)
        with torch.no_grad():
            test, train = (
                share(torch.cat([run(on.graph, part) for part in x.split(100)]), y)
                for x, y in (on.tested_on, on.chosen_on)
            )
        rows[name] = {"float": test, "train": train}
        for choice in missing:
            rows[f"{name} {choice.topic} {choice.name}"] = measured(on, choice)
            json_file.write_text(json.dumps(rows, indent=1) + "\n")
    rows = json.loads(json_file.read_text())  # as they are kept: keys are text
    print("\n".join(tables(rows)))


if __name__ == "__main__":
    typer.run(main)
