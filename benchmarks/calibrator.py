"""What the choice of ladder units costs: all candidates value by value, and the MSE calibrator."""

import time
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor

from spikemorph import load_graph
from spikemorph.convert import canonical
from spikemorph.quant import MSE, Max
from spikemorph.quant.observe import Seen, observe
from spikemorph.zoo import load_data

CASES = {"zoo:digits_cnn": "digits:train", "zoo:fashion_vgg": "fashion-mnist:train"}
LEVELS = (4, 16, 256)


def value_by_value(rows: Tensor, smin: int, smax: int) -> Tensor:
    """The unit with the least error: all values rounded at all candidates."""
    widest = Max().units(rows, smin, smax)
    shares = torch.linspace(0.01, 1, 100, dtype=torch.float64)
    rows, errors = rows.double(), []
    for share in shares:
        unit = (share * widest)[:, None]
        levels = torch.floor(rows / unit + 0.5).clamp(smin, smax)
        errors.append((levels * unit - rows).square().mean(1))
    return shares[torch.stack(errors).argmin(0)] * widest


def seconds(seen: list[Seen], levels: int, rounds: int) -> tuple[float, float]:
    """Least processor seconds for all activations, of both ways; refuses units that differ."""
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        found = []
        for way, times in zip((value_by_value, MSE().units), taken, strict=True):
            began = time.process_time()
            found.append([way(one.rows()[~one.silent], 0, levels - 1) for one in seen])
            times.append(time.process_time() - began)
        if not all(map(torch.equal, *found)):
            raise SystemExit("the two ways choose different units")
    return min(taken[0]), min(taken[1])


def main(
    samples: Annotated[int, typer.Option(help="Calibration samples.")] = 2000,
    rounds: Annotated[int, typer.Option(help="Turns; the fastest counts.")] = 3,
) -> None:
    """Print the ratio for every network and number of levels."""
    table = Table("network", "activations", "levels", "value by value s", "MSE s", "ratio")
    for model, data in CASES.items():
        x = load_data(data).values()[:samples]
        seen = list(observe(canonical(load_graph(model).graph), x).values())
        for levels in LEVELS:
            plain, quick = seconds(seen, levels, rounds)
            numbers = f"{plain:.2f}", f"{quick:.3f}", f"{plain / quick:.1f}x"
            table.add_row(model, str(len(seen)), str(levels), *numbers)
    Console(width=110).print(table)


if __name__ == "__main__":
    typer.run(main)
