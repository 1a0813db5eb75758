"""How each shipped network was trained, as data."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from spikemorph.graph.tasks import Kind
from spikemorph.train import FlipAndShift, TrainSettings

from .variations import Noise, ShiftedPixels


@dataclass(frozen=True)
class Recipe:
    """One shipped network: an architecture, a data set, and all the numbers of its training."""

    name: str  # of the model, and of its architecture
    dataset: str
    settings: TrainSettings
    augment: FlipAndShift | ShiftedPixels | Noise | None
    held_out: int  # training samples kept for validation; 0: the data has samples for that
    smoothing: float = 0.1
    precision: Literal["32-true", "bf16-mixed"] = "32-true"  # of the arithmetic; weights are 32-bit
    inputs: tuple[float, float] = (0.0, 1.0)  # between which all samples lie
    answers: Kind = Kind.CLASSES


_DIGITS_SHIFT = FlipAndShift(flip=False, pixels=1)
_VOWELS, _WATCH = (-3.0, 3.0), (-32.0, 32.0)

RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        recipe.name: recipe
        for recipe in (
            Recipe("digits_mlp", "digits", TrainSettings(epochs=300, rate=0.05), None, 200),
            Recipe("digits_cnn", "digits", TrainSettings(epochs=40), _DIGITS_SHIFT, 200),
            Recipe("digits_resnet", "digits", TrainSettings(epochs=40), _DIGITS_SHIFT, 200),
            Recipe(
                "fashion_cnn",
                "fashion-mnist",
                TrainSettings(epochs=10),
                FlipAndShift(),
                5000,
                precision="bf16-mixed",
            ),
            Recipe("fashion_vgg", "fashion-mnist", TrainSettings(epochs=12), FlipAndShift(), 5000),
            Recipe(
                "fashion_resnet", "fashion-mnist", TrainSettings(epochs=30), FlipAndShift(), 5000
            ),
            Recipe(
                "fashion_wide_resnet",
                "fashion-mnist",
                TrainSettings(epochs=16),
                FlipAndShift(),
                5000,
                precision="bf16-mixed",
            ),
            Recipe(
                "cifar_vgg",
                "cifar10",
                TrainSettings(epochs=12, rate=0.15),
                FlipAndShift(pixels=3),
                5000,
                precision="bf16-mixed",
            ),
            Recipe(
                "mnist_permuted_lmu",
                "mnist-permuted",
                TrainSettings(epochs=100, decay=2e-4),
                ShiftedPixels(1, permuted=True),
                5000,
            ),
            Recipe(
                "mnist_sequence_crnn",
                "mnist-sequence",
                TrainSettings(epochs=10, decay=2e-4),
                ShiftedPixels(1),
                5000,
            ),
            Recipe(
                "mnist_rows_gru",
                "mnist-rows",
                TrainSettings(epochs=4, rate=0.2, decay=1e-4, clip=1.0),
                ShiftedPixels(1),
                5000,
            ),
            Recipe(
                "vowels_gru",
                "japanese-vowels",
                TrainSettings(epochs=200, batch=16, rate=0.2, clip=1.0),
                Noise(0.3),
                54,
                inputs=_VOWELS,
            ),
            Recipe(
                "vowels_lstm",
                "japanese-vowels",
                TrainSettings(epochs=200, batch=16, rate=0.3, clip=1.0),
                Noise(0.3),
                54,
                inputs=_VOWELS,
            ),
            Recipe(
                "watch_gru",
                "smartwatch",
                TrainSettings(epochs=30, batch=64, rate=0.2, clip=1.0),
                Noise(0.2),
                0,
                inputs=_WATCH,
            ),
            Recipe(
                "watch_lstm",
                "smartwatch",
                TrainSettings(epochs=30, batch=64, rate=0.2, clip=1.0),
                Noise(0.2),
                0,
                inputs=_WATCH,
            ),
            Recipe(
                "lines_crnn",
                "text-lines",
                TrainSettings(epochs=2, batch=32, rate=0.1, decay=1e-4, clip=1.0),
                None,
                0,
                smoothing=0.0,
                answers=Kind.STRINGS,
            ),
        )
    }
)
