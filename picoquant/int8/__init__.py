"""The INT8 network: its layers, tensors, scales and integer weights."""
