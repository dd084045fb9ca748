"""INT8 quantisation of an exported model: PTQ, and AutoCompression's QAT with distillation on top of it."""
