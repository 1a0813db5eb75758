"""The command that writes the shipped clothing images: `python -m spikemorph.zoo.making.sample`."""

import json
from pathlib import Path
from typing import Annotated

import typer
from safetensors.torch import save

from spikemorph.graph.saving import write_bytes

from ..datasets import load_data
from ..fashion import FASHION_MNIST, SAMPLE_FILE
from ..fetch import sha256_of

_NOTICE = """\
The MIT License (MIT). Copyright (c) 2017 Zalando SE, https://tech.zalando.com

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and \
associated documentation files (the "Software"), to deal in the Software without restriction, \
including without limitation the rights to use, copy, modify, merge, publish, distribute, \
sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is \
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or \
substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT \
NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND \
NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, \
DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT \
OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""


def write_sample(
    out: Annotated[Path, typer.Option(help="Folder for the sample and its notice.")] = Path(),
    data_cache: Annotated[Path | None, typer.Option(help="Where downloads are kept.")] = None,
) -> None:
    """Write the first test images with their labels, and the notice their licence asks for."""
    count = FASHION_MNIST.splits["sample"].count
    samples = load_data(f"fashion-mnist:test:{count}", home=data_cache, tell=typer.echo)
    labels = {} if samples.y is None else {"y": samples.y.contiguous()}
    content = save({"x": samples.x.contiguous(), **labels})
    note = {
        "what": f"the first {count} test images of Fashion-MNIST and their labels, unchanged",
        "sha256": sha256_of(content),
        "licence": FASHION_MNIST.licence,
        "notice": _NOTICE,
    }
    write_bytes(out / SAMPLE_FILE, content)
    text = json.dumps(note, indent=2) + "\n"
    write_bytes((out / SAMPLE_FILE).with_suffix(".json"), text.encode())


if __name__ == "__main__":
    typer.run(write_sample)
