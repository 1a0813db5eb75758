"""A torch model of your own loses nine tenths of its weights, then becomes a spiking network.

python examples/sparse_model.py
"""

from digits_net import digits, trained

import spikemorph as sm

model = trained()
images, labels = digits("train")
x, y = digits("test")

pruned = sm.prune(model, 0.9, images, labels, method="gradual", epochs=10, input_range=(0.0, 1.0))
print(pruned)
dense = sm.to_snn(model, images, input_range=(0.0, 1.0))
thin = sm.to_snn(pruned, images)  # it knows its input range and its masks
print("dense: ", dense.evaluate(x, y))
print("sparse:", thin.evaluate(x, y))
print(thin.energy(x, samples=20, dense=dense))
