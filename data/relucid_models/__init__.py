"""The trained models that ship, as ONNX files; ``data/MANIFEST.md`` says where each comes from."""
