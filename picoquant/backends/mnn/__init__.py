"""MNN: `.mnn` files by its own converter, and its runtime on the CPU."""

from picoquant.backends.base import Backend

BACKENDS = (
    Backend(
        "mnn",
        "MNN",
        __name__,
        integers=False,  # a layer's result is rounded, too, where it has a range, and a layer without one is in float
        parity=12.0,
        suffixes=(".mnn",),
        file="model.mnn",
        step="mnn",
        step_says="the INT8 .mnn ({made}) in MNN",
        check="mnn",
    ),
)
