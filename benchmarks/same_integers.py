"""Whether two checkouts compute the same integers: `benchmarks/same_integers.py OLD [NEW]`.

For networks of the zoo, converted in both: the network's hash, its certificate, the trace of some
samples, and what is counted of them, bit for bit. Exits with 1 where anything differs.
"""

import sys
from pathlib import Path

from checkouts import answer

CASES = {  # model: data to calibrate on, data to run, neuron
    "digits_mlp": ("digits:train", "digits:test"),
    "digits_cnn": ("digits:train", "digits:test"),
    "digits_resnet": ("digits:train", "digits:test"),
    "fashion_vgg": ("fashion-mnist:train:300", "fashion-mnist:test:20"),
}
SCRIPT = """
import hashlib, json, sys
import numpy as np, torch
from spikemorph import convert_graph, load_graph
from spikemorph.energy import count
from spikemorph.graph.grid import Grid
from spikemorph.quant import Quantisation
from spikemorph.spiking import DenseEngine, ReferenceEngine
from spikemorph.spiking.neurons import STBIF, pow2
from spikemorph.zoo import load_data

def digest(*tensors):
    found = hashlib.sha256()
    for t in tensors:
        found.update(np.ascontiguousarray(t.to(torch.int64).numpy()).tobytes())
    return found.hexdigest()[:16]

model, calibration, data = sys.argv[1:4]
graph = load_graph("zoo:" + model).graph
x, test = load_data(calibration).values()[:300], load_data(data).values()[:20]
found = {}
for neuron in (pow2(), STBIF()):
    made = convert_graph(graph, x, grid=Grid.of(0.0, 1.0), quantisation=Quantisation(), neuron=neuron)
    steps = made.certificate.steps_required
    own = found[neuron.name] = {"certificate": made.certificate.to_dict()}
    for engine in (DenseEngine, ReferenceEngine):
        trace = engine(made.network).run(test, steps, record=True)
        layers = [t for kind in (trace.positive, trace.negative, trace.trains) for t in kind.values()]
        own[engine.__name__] = digest(trace.outputs, trace.settled, *layers)
    counted = count(made.network, test, steps)
    own["counts"] = [str(layer) for layer in counted.layers]
print(json.dumps(found))
"""


def main() -> None:
    if len(sys.argv) not in (2, 3):
        raise SystemExit("give the other checkout: benchmarks/same_integers.py OLD [NEW]")
    old = Path(sys.argv[1])
    new = Path(sys.argv[2]) if len(sys.argv) == 3 else Path(__file__).parents[1]
    same = True
    for model, data in CASES.items():
        before, after = (answer(checkout, SCRIPT, model, *data) for checkout in (old, new))
        for neuron, facts in before.items():
            for what, value in facts.items():
                equal = value == after[neuron][what]
                same &= equal
                sys.stdout.write(f"{model} {neuron} {what}: {'same' if equal else 'DIFFERS'}\n")
    raise SystemExit(not same)


if __name__ == "__main__":
    main()
