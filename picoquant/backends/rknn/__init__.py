"""Rockchip's NPUs by its rknn-toolkit2: `.rknn` files with our scales, and its simulator on the PC."""

from picoquant.backends.base import Backend
from picoquant.backends.scheme import Scheme

BACKENDS = (
    Backend(
        "rknn",
        "rknn-toolkit2's simulator",
        __name__,
        precisions=("int8",),
        scheme=Scheme(zero_points=True, every_tensor=True),
        # Every tensor is rounded, and its multipliers are not the reference's: docs/rknn.md.
        parity=12.0,
        suffixes=(".rknn", ".onnx"),
        file="model.rknn",
        takes_threads=False,
        step="rknn",
        step_says="what the .rknn ({made}) is built from, in rknn-toolkit2's simulator",
        check="rknn",
    ),
)
