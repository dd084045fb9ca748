"""Sophgo's CV18xx TPUs by its TPU-MLIR: `.cvimodel` files with our scales, and its C model on the PC."""

from picoquant.backends.base import Backend
from picoquant.backends.scheme import Scheme

BACKENDS = (
    Backend(
        "tpu-mlir",
        "TPU-MLIR's C model",
        __name__,
        precisions=("int8",),
        scheme=Scheme(every_tensor=True),
        # Every tensor is rounded, and it has 8-bit tables and multipliers of its own: docs/tpu_mlir.md.
        parity=12.0,
        suffixes=(".cvimodel",),
        file="model.cvimodel",
        takes_threads=False,
        step="tpu_mlir",
        step_says="the .cvimodel ({made}) in TPU-MLIR's C model",
        check="tpu_mlir",
    ),
)
