"""ONNX: the float and the INT8 file, and ONNX Runtime."""
