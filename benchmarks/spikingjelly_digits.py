"""Accuracy and spikes over time steps beside SpikingJelly's training-free conversions, same weights.

Each side offers several settings. The one compared is the one with the highest mean accuracy over
all time steps on *training* images; test images are looked at afterwards.
"""

import io
import json
import platform
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from statistics import mean
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table
from spikingjelly.activation_based import ann2snn, functional, neuron
from torch import Tensor, nn

from spikemorph.conversion import convert_graph, convert_rate_coded
from spikemorph.convert import read_torch
from spikemorph.graph.grid import Grid
from spikemorph.measures.evaluation import measure
from spikemorph.quant import MSE, Max, Percentile, Quantisation, RateCoding
from spikemorph.spiking import DenseEngine, Neuron, SpikingNetwork
from spikemorph.spiking.neurons import IF, STBIF, pow2
from spikemorph.zoo import build_model, load_data
from spikemorph.zoo.samples import Samples

MODELS = ("digits_cnn", "digits_resnet")
STEPS = (1, 2, 4, 8, 16, 32)
COMPARED = STEPS[1:]  # the requirement is for two steps or more
NOTES = """\
Accuracy: % of 360 test images. Spikes: mean per image, all layers, summed up to step T.
Counted: every non-zero output of every spiking neuron at every step, whatever its size or sign.
Not counted, on either side: the analog image, which the first layer reads at step 1 only (pow2 and
st-bif) or at every step (the rate-coded rows), and the analog read-out. A spike of a power of two is
one event that adds a weight shifted by some bits: not the same hardware as a unit spike.
SpikingJelly's max-pools pool the spikes of each step alone; ours pool the sums of spikes so far.
* Settings with the highest mean accuracy over all T on training images."""


@dataclass(frozen=True)
class Row:
    """One converted network on one split; numbers by time step."""

    name: str
    alphabet: str
    accuracy: Mapping[int, float]
    spikes: Mapping[int, float] = field(default_factory=dict)
    required: int | None = None  # steps after which the certificate promises equality
    differing: Mapping[int, int] = field(default_factory=dict)  # logits, from the integer pass

    @property
    def mean_accuracy(self) -> float:
        """What settings are chosen by."""
        return mean(self.accuracy[step] for step in STEPS)


@dataclass(frozen=True)
class Jelly:
    """One way to convert with SpikingJelly; `delayed` reads out from their estimated delay on."""

    name: str
    recipe: ann2snn.ConversionRecipe
    delayed: bool = False

    def rows(self, model: str, train: Samples, splits: Sequence[Samples]) -> list[Row]:
        """Convert, and measure on each split."""
        with redirect_stderr(io.StringIO()):  # progress bars
            network = ann2snn.Converter(self.recipe).convert(build_model(model)).eval()
        starts = delays(network, train.values()) if self.delayed else dict.fromkeys(STEPS, 0)
        return [self._row(network, starts, samples) for samples in splits]

    def _row(self, network: nn.Module, starts: Mapping[int, int], samples: Samples) -> Row:
        logits, spikes = simulate(network, samples.values(), max(STEPS))
        accuracy = {
            step: share(logits[start:step].sum(0).argmax(1), samples.y)
            for step, start in starts.items()
        }
        return Row(self.name, "unit", accuracy, {step: spikes[step - 1] for step in STEPS})


def jelly_choices(x: Tensor) -> list[Jelly]:
    """SpikingJelly's training-free recipes for ReLU networks, calibrated on images `x`.

    One batch of all images makes its quantiles exact. Local threshold balancing is iterative: it
    gets eight passes over batches of 32.
    """
    rate, balance = ann2snn.RateCodingRecipe, ann2snn.LocalThresholdBalancingRecipe
    halved: dict[str, Any] = {"channel_wise": True, "half_threshold": True}
    robust = rate([x], mode="99.9%", **halved)
    pooled = rate([x], mode="99.9%", pre_spike_maxpool=True, **halved)
    lower = rate([x], mode="99%", **halved)
    return [
        Jelly("SpikingJelly 99.9 % channel-wise, half start", robust),
        Jelly("SpikingJelly 99.9 % channel-wise, half start, delayed read-out", robust, True),
        Jelly("SpikingJelly 99.9 % channel-wise, half start, pools before neurons", pooled),
        Jelly("SpikingJelly 99 % channel-wise, half start", lower),
        Jelly("SpikingJelly 99 % channel-wise, half start, delayed read-out", lower, True),
        Jelly("SpikingJelly max channel-wise, half start", rate([x], mode="max", **halved)),
        Jelly("SpikingJelly local threshold balancing", balance(list(x.split(32)) * 8)),
        Jelly("SpikingJelly 99.9 %", rate([x], mode="99.9%")),
        Jelly("SpikingJelly max", rate([x], mode="max")),
    ]


def delays(network: nn.Module, x: Tensor) -> dict[int, int]:
    """SpikingJelly's estimate of the step to read out from, for every number of steps."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # it warns where it cuts the delay
        return {step: ann2snn.estimate_delay_start(network, [x], "cpu", step) for step in STEPS}


@torch.no_grad()
def simulate(network: nn.Module, x: Tensor, steps: int) -> tuple[Tensor, list[float]]:
    """Logits of each step (step, sample, class), and the spikes per image up to each step."""
    sent, spikes, logits = [0], [], []

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        sent[0] += int(output.count_nonzero())

    counted = [module for module in network.modules() if isinstance(module, neuron.BaseNode)]
    hooks = [module.register_forward_hook(count) for module in counted]
    functional.reset_net(network)
    for _ in range(steps):
        logits.append(network(x))
        spikes.append(sent[0] / len(x))
    functional.reset_net(network)
    for hook in hooks:
        hook.remove()
    return torch.stack(logits), spikes


@dataclass(frozen=True)
class Ours:
    """One way to convert with this toolkit; without quantisation it is classical rate coding."""

    name: str
    alphabet: str
    neuron: Neuron
    quantisation: Quantisation | None = None

    def row(self, model: str, train: Samples, samples: Samples) -> Row:
        """Convert, and measure on one split."""
        graph = read_torch(build_model(model), torch.zeros_like(train.values()[:1]))
        x, how = train.values(), {"grid": Grid.of(0.0, 1.0), "neuron": self.neuron}
        if self.quantisation is None:
            made = convert_rate_coded(graph, x, rates=RateCoding(quantile=0.999), **how)
        else:
            made = convert_graph(graph, x, quantisation=self.quantisation, **how)
        return self._row(made.network, made.certificate.steps_required, samples)

    def _row(self, network: SpikingNetwork, required: int | None, samples: Samples) -> Row:
        last = max(*STEPS, required or 0)
        found = measure(network, DenseEngine(network), samples.values(), last)
        spikes = found.spikes.cumsum(0).double().mean(1)
        accuracy = {step: share(found.answers[step - 1], samples.y) for step in range(1, last + 1)}
        sent = {step: float(spikes[step - 1]) for step in accuracy}
        differing = dict(enumerate(found.differing.sum(1).tolist(), 1)) if required else {}
        return Row(self.name, self.alphabet, accuracy, sent, required, differing)


def our_choices() -> list[Ours]:
    """Settings of the default neuron: levels and calibrators, weights of 8 bits."""
    calibrators = {"MSE": MSE(), "max": Max(), "99.9 %": Percentile(0.999)}
    return [
        Ours(f"ours: pow2, {levels} levels, {name}", "powers of two", pow2(), settings)
        for levels in (8, 16, 32, 64)
        for name, calibrator in calibrators.items()
        for settings in [Quantisation(levels=levels, calibrator=calibrator)]
    ]


def share(classes: Tensor, wanted: Tensor | None) -> float:
    """Per cent of images whose class is right."""
    return 100 * float((classes == wanted).double().mean())


@dataclass(frozen=True)
class Comparison:
    """Rows on test images, and those that the choices were made by."""

    model: str
    floats: Row
    jelly: tuple[Row, ...]
    best: Row
    twin: Row
    default: Row
    unit: Row
    chosen: Row
    jelly_on_training: tuple[Row, ...]
    ours_on_training: tuple[Row, ...]

    def rows(self) -> list[Row]:
        """The rows of the table: of SpikingJelly's, the robust one and the best."""
        jelly = [self.jelly[0]] if self.best is self.jelly[0] else [self.jelly[0], self.best]
        rows = [self.floats, *jelly, self.twin, self.default, self.unit, self.chosen]
        picked = (self.best, self.chosen)
        return [replace(row, name=f"{row.name} *") if row in picked else row for row in rows]


@torch.no_grad()
def compare(model: str, train: Samples, test: Samples) -> Comparison:
    """Convert one model in every way; choose on training images; measure on test images."""
    pairs = [choice.rows(model, train, (train, test)) for choice in jelly_choices(train.values())]
    best = max(pairs, key=lambda pair: pair[0].mean_accuracy)[1]
    tried = [(choice, choice.row(model, train, train)) for choice in our_choices()]
    chosen = max(tried, key=lambda pair: pair[1].mean_accuracy)[0]
    right = share(build_model(model)(test.values()).argmax(1), test.y)
    twin = Ours("ours: IF, 99.9 % channel-wise, half start", "unit", IF(capped=False))
    default = Ours("ours: pow2, default settings", "powers of two", pow2(), Quantisation())
    unit = Ours("ours: st-bif, default settings", "unit, both signs", STBIF(), Quantisation())
    return Comparison(
        model,
        Row("float ANN", "none", dict.fromkeys(STEPS, right)),
        tuple(pair[1] for pair in pairs),
        best,
        *(ours.row(model, train, test) for ours in (twin, default, unit, chosen)),
        tuple(pair[0] for pair in pairs),
        tuple(row for _, row in tried),
    )


def table(title: str, rows: Sequence[Row], values: str, form: str) -> Table:
    """Rows against time steps."""
    made = Table(title=title, title_justify="left")
    made.add_column("network", max_width=68)
    made.add_column("spikes are")
    for step in STEPS:
        made.add_column(f"T={step}", justify="right", no_wrap=True)
    for row in rows:
        numbers = getattr(row, values)
        cells = [format(numbers[step], form) if step in numbers else "-" for step in STEPS]
        made.add_row(row.name, row.alphabet, *cells)
    return made


def verdicts(found: Comparison) -> Iterator[str]:
    """The requirement, line by line: default pow2 against SpikingJelly, and the certificates."""
    ours = found.default.accuracy
    for rival in dict.fromkeys((found.best.name, found.jelly[0].name)):
        theirs = next(row for row in found.jelly if row.name == rival).accuracy
        for step in STEPS:
            sign, word = (">=", "holds") if ours[step] >= theirs[step] else ("<", "FAILS")
            word = word if step in COMPARED else "not required"
            yield f"T={step}: pow2 {ours[step]:.2f} {sign} {theirs[step]:.2f} {rival}: {word}"
    for row in (found.default, found.unit, found.chosen):
        assert row.required is not None
        wrong = sum(n for step, n in row.differing.items() if step >= row.required)
        word = "FAILS" if wrong else "holds"
        settled = f"{row.accuracy[row.required]:.2f} %, {row.spikes[row.required]:.0f} spikes"
        yield f"from T={row.required}: {wrong} logits differ, {row.name} ({settled}): {word}"


def remarks(found: Comparison) -> Iterator[str]:
    """What speaks against us: unit spikes, and rivals picked with the test images in view."""
    rivals = [*found.jelly, found.twin]
    for step in COMPARED:
        top = max(row.accuracy[step] for row in rivals)
        pair = f"pow2 {found.default.accuracy[step]:.2f}, pow2 * {found.chosen.accuracy[step]:.2f}"
        yield f"T={step}: {pair}, best of {len(rivals)} rate-coded ones by TEST accuracy: {top:.2f}"
    unit, best = found.unit.accuracy, found.best.accuracy
    at = [step for step in STEPS if unit[step] < best[step]]
    yield f"st-bif, the exact neuron with unit spikes, is behind {found.best.name} at T={at}"


def main(
    json_file: Annotated[Path | None, typer.Option("--json", help="File for the numbers.")] = None,
) -> None:
    """Compare on the digits networks of the zoo."""
    console = Console(width=140, highlight=False)
    train, test = load_data("digits:train"), load_data("digits:test")
    found = [compare(model, train, test) for model in MODELS]
    for one in found:
        tried = [*one.jelly_on_training, *one.ours_on_training]
        console.print(table(f"{one.model}: accuracy on TRAINING images", tried, "accuracy", ".2f"))
        console.print(table(f"{one.model}: accuracy", one.rows(), "accuracy", ".2f"))
        console.print(table(f"{one.model}: spikes per image", one.rows(), "spikes", ".0f"))
        title = f"{one.model}: logits, of {10 * len(test)}, that differ from the integer pass"
        console.print(table(title, [r for r in one.rows() if r.required], "differing", "d"))
    console.print(NOTES)
    for one in found:
        console.print(f"\n{one.model}, required:", *verdicts(one), sep="\n  ", markup=False)
        console.print(f"\n{one.model}, for the record:", *remarks(one), sep="\n  ", markup=False)
    if json_file is not None:
        versions = {name: version(name) for name in ("spikemorph", "spikingjelly", "torch")}
        content = {"versions": versions | {"python": platform.python_version()}}
        content["models"] = [asdict(one) for one in found]
        json_file.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
