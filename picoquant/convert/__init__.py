"""Conversion of an ONNX export of PicoDet back into weights of the network."""
