"""Weights from elsewhere: an ONNX export of PicoDet becomes weights of the network again."""
