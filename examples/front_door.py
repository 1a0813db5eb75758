"""A torch network becomes a certified spiking one, and is measured, attacked, reported on and saved."""

import sys
from pathlib import Path

import torch
from torch import nn

import spikemorph as sm
from spikemorph.zoo import load_data

train, test = load_data("digits:train"), load_data("digits:test")
images, x, y = train.values(), test.values(), test.y

torch.manual_seed(0)
model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
optimiser = torch.optim.Adam(model.parameters(), 0.01)
for _ in range(60):  # any training of yours
    optimiser.zero_grad()
    nn.functional.cross_entropy(model(images), train.y).backward()
    optimiser.step()
model.eval()

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "front-door")
folder.mkdir(exist_ok=True)
tell = sys.stdout.write

snn = sm.to_snn(model, images, input_range=(0, 1))
tell(f"{snn}\n")
tell(f"{snn.evaluate(x, y)}\n{snn.energy(x)}\n")
tell(f"{snn.attack(x, y, eps='8/255', attacks='pgd=5', samples=50, gate_samples=0)}\n")
snn.report(folder / "report.html")

logits = snn(x)  # settled: what the integer network says, for every input
for number, step in enumerate(snn.steps(x[:1]), 1):
    tell(f"step {number}: {step}\n")

net = snn.module()  # a torch module: hooks, devices, loops of one's own
sent = []
net.get_submodule("2").register_forward_hook(lambda layer, inputs, spikes: sent.append(spikes))
state = net.start()
for _ in range(3):
    state, step = net.step(state, x[:1])
tell(f"layer 2 sent, step by step: {[int(spikes.abs().sum()) for spikes in sent]}\n")

snn.save(folder / "net.safetensors")
assert torch.equal(sm.load(folder / "net.safetensors")(x), logits)

sparse = sm.prune(model, 0.8, images, train.y, epochs=3, held_out=100, input_range=(0, 1))
tell(f"{sparse}\n{sm.to_snn(sparse, images).evaluate(x, y)}\n")
tell(f"{sm.inspect(model, input_shape=(1, 1, 8, 8))}\n")
