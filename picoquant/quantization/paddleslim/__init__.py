"""`Quantize.engine: paddleslim`: PaddleSlim's own AutoCompression, as a reference for picoquant's engine."""
