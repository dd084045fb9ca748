"""What runtimes want of a graph, ONNX Runtime above all: shapes for which it has fast kernels."""
