"""From an ONNX graph to a chain of layers, without changing a single number."""
