"""A torch model of your own becomes a spiking network: measured, attacked, saved, stepped through.

python examples/own_torch_model.py
"""

from digits_net import digits, trained

import spikemorph as sm

model = trained()
images, _ = digits("train")  # scales are calibrated on training images, never on test images
x, y = digits("test")

print(sm.inspect(model, input_shape=(1, 1, 8, 8)))  # what becomes of every layer
snn = sm.to_snn(model, images, input_range=(0.0, 1.0))
print(snn)

print(snn.evaluate(x, y, float_model=model))
print(snn.energy(x, samples=20))
# A few steps of one attack on a few images, without the checks that attack() else makes: a first look.
print(snn.attack(x, y, eps="8/255", attacks="pgd=10", samples=20, gate_samples=0))
print("written:", snn.report("digits.html"))

# In time: the spikes of every layer, step by step, until all have settled.
for step in snn.steps(x[:1]):
    sent = {name: int((spikes != 0).sum()) for name, spikes in step.spikes.items()}
    print(sent, "class", int(step.logits.argmax()))

snn.save("digits.safetensors")
again = sm.load("digits.safetensors")  # its certificate is proved again
print("the same outputs:", bool((again(x[:10]) == snn(x[:10])).all()))
