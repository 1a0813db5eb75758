"""Read torch and ONNX files and modules, strictly, into float graphs."""
