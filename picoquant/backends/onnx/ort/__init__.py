"""What ONNX Runtime alone wants of a graph: shapes for which it has fast kernels."""
