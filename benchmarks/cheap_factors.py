"""What carriers save, as ratios of CPU time: `benchmarks/cheap_factors.py [OLD_CHECKOUT]`.

Taken in turn, on one thread, medians of ratios: products and integer passes in int64 against those in
carriers; and, with another checkout, a whole `convert` of that one against this one's.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import torch
from checkouts import python
from torch import Tensor

from spikemorph import convert_graph, load_graph
from spikemorph.graph.grid import Grid
from spikemorph.graph.interpret import run_integers
from spikemorph.layers.carriers import Products
from spikemorph.layers.convolution import Convolution
from spikemorph.layers.integer_pass import IntegerPass
from spikemorph.quant import Quantisation
from spikemorph.zoo import load_data

ROUNDS = 5
CONVERT = ("convert", "zoo:fashion_vgg", "--data", "fashion-mnist:test:1000", "--out")
CPU = torch.device("cpu")
LOADS = {"24 bits": (7, 15.0), "53 bits": (15, 4095.0), "62 bits": (30, 2.0**20)}


def ratios(old: Callable[[], float], new: Callable[[], float], rounds: int) -> list[float]:
    """New over old, once a round, taken in turn: A B B A."""
    found = []
    for k in range(rounds):
        pair = (old, new) if k % 2 == 0 else (new, old)
        first, second = (run() for run in pair)
        found.append(second / first if k % 2 == 0 else first / second)
    return found


def spent(run: Callable[[], object]) -> float:
    """CPU seconds of a call."""
    began = time.process_time()
    run()
    return time.process_time() - began


def report(what: str, found: list[float]) -> None:
    """One line: the median, and how far the rounds lie apart."""
    sys.stdout.write(
        f"{what}: {median(found):.3f} ({min(found):.3f} to {max(found):.3f}, {len(found)} rounds)\n"
    )
    sys.stdout.flush()


def product(weight_bits: int, peak: float) -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
    """One 3x3 convolution of 64 channels on 16 samples, in int64 and in its carrier."""
    draw = torch.Generator().manual_seed(0)
    top = 2**weight_bits
    weight = torch.randint(-top, top, (64, 64, 3, 3), generator=draw)
    op = Convolution(weight, None, (1, 1), ((1, 1), (1, 1)), (1, 1))
    x = torch.randint(0, int(peak), (16, 64, 14, 14), generator=draw)
    bounds = (peak, float(weight.double().abs().flatten(1).sum(1).max()) * peak)
    ready = Products().of(op, (64, 14, 14), bounds, CPU)
    if not torch.equal(ready(x).to(torch.int64), op.products(x)):
        raise SystemExit("a product is not int64's")
    return partial(op.products, x), partial(ready, x)


def passes() -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
    """One pass of the integer network of fashion_vgg over 50 images, in int64 and in carriers."""
    images = load_data("fashion-mnist:sample").values()
    made = convert_graph(
        load_graph("zoo:fashion_vgg").graph,
        images[50:],
        grid=Grid.of(0.0, 1.0),
        quantisation=Quantisation(),
    )
    graph, x = made.network.graph, images[:50]
    points, fast = made.network.grid.to_integers(x), IntegerPass(graph)
    if not torch.equal(fast(x), run_integers(graph, points)):
        raise SystemExit("the pass is not int64's")
    return partial(run_integers, graph, points), partial(fast, x)


def main() -> None:
    torch.set_num_threads(1)
    for name, (bits, peak) in LOADS.items():
        old, new = product(bits, peak)
        report(f"product, sums of {name}, carrier / int64", ratios(
            partial(spent, old), partial(spent, new), ROUNDS
        ))  # fmt: skip
    old, new = passes()
    report("integer pass, carriers / int64", ratios(
        partial(spent, old), partial(spent, new), ROUNDS
    ))  # fmt: skip
    if len(sys.argv) < 2:
        return
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{name}.safetensors" for name in ("old", "new")]
        roots = (Path(sys.argv[1]), Path(__file__).parents[1])

        def convert(root: Path, file: Path) -> float:
            return python(root, ["-m", "spikemorph", *CONVERT, str(file)])[0]

        runs = [partial(convert, *pair) for pair in zip(roots, files, strict=True)]
        report("convert zoo:fashion_vgg, this checkout / the other", ratios(*runs, ROUNDS))
        same = files[0].read_bytes() == files[1].read_bytes()
        sys.stdout.write(f"the files they saved are {'the same' if same else 'DIFFERENT'}\n")


if __name__ == "__main__":
    main()
