"""An ONNX file, from whatever trained it, becomes a spiking network.

python examples/onnx_file.py
"""

import warnings

import torch
from digits_net import digits, trained

import spikemorph as sm

# Any ONNX file will do; here torch writes one, by its older exporter, which needs no other package.
with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    torch.onnx.export(trained(), (torch.zeros(1, 1, 8, 8),), "digits.onnx", dynamo=False)

images, _ = digits("train")
x, y = digits("test")
snn = sm.to_snn("digits.onnx", images, levels=8, input_range=(0.0, 1.0))
print(snn)
print(snn.evaluate(x, y, float_model="digits.onnx"))
snn.save("digits_onnx.safetensors")
