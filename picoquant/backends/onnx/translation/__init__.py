"""A float program of a detector as ONNX, where paddle2onnx is not installed (it has no wheel for Python 3.13)."""
